"""Every exact score as a mean over classes of ratios of sums over patients, which is what inference needs of it.

A score is (1 / K) sum_c N_c / D_c with N_c, D_c sums over patients of counts: TP and TP + FP + FN for IoU, 2 TP and
2 TP + FP + FN for Dice; the yardstick is the mean of two Dice. Patients are the units: regions of one patient are no
independent witnesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.config.labels import UNDEFINED
from harness.scores import YARDSTICK, Matrix, RoiMatrices, Scheme, class_confusion, yardstick_refusal

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ratios:
    """Counts of one score: `hits` over `sizes`, each (P, K): P patients, and the K classes that the score averages."""

    patients: tuple[str, ...]
    classes: tuple[str, ...]
    hits: Array
    sizes: Array

    @property
    def score(self) -> float:
        """The score over all patients."""
        return float((self.hits.sum(axis=0) / self.sizes.sum(axis=0)).mean())

    def of_class(self, name: str) -> Ratios:
        """The score of one class alone."""
        at = [self.classes.index(name)]
        return Ratios(self.patients, (name,), self.hits[:, at], self.sizes[:, at])


def ratios_of(rois: Sequence[RoiMatrices], scheme: Scheme, metric: str) -> Ratios | None:
    """The counts behind `val/iou`, `val/dice_tumor`, `val/yardstick`, `val/non_homogeneous/...`; None where n/a.

    ValueError for a metric that is no ratio of counts (a loss) or is of one centre only.
    """
    part, _, name = metric.rpartition("/")
    if part not in ("val", "val/non_homogeneous"):
        raise ValueError(f"{metric} has no counts per patient")
    mixed = part == "val/non_homogeneous"
    patients = tuple(sorted({roi.patient for roi in rois}))
    matrices = {
        patient: np.sum(
            [roi.matrix_non_homogeneous if mixed else roi.matrix for roi in rois if roi.patient == patient], axis=0
        )
        for patient in patients
    }
    return ratios_of_patients(matrices, scheme, name)


def ratios_of_patients(matrices: dict[str, Matrix], scheme: Scheme, name: str) -> Ratios | None:
    """The same from one source matrix a patient; `name` is `iou`, `dice_tumor`, `yardstick_stroma`, ..."""
    kind, _, wanted = name.partition("_")
    if kind == "yardstick":
        if yardstick_refusal(scheme) is not None:
            return None
        classes: tuple[str, ...] = ("tumor", "stroma")
        counts = [_yardstick_counts(matrix, scheme) for matrix in matrices.values()]
    elif kind in ("iou", "dice"):
        classes = scheme.labels.class_names
        counts = [_class_counts(matrix, scheme, dice=kind == "dice") for matrix in matrices.values()]
    else:
        raise ValueError(f"{name} has no counts per patient")
    table = np.asarray(counts, dtype=np.float64)  # (P, 3, K): hits, sizes, true pixels
    hits, sizes, truth = table[:, 0], table[:, 1], table[:, 2]
    # The yardstick is n/a only where a class is in neither truth nor prediction; the others need truth.
    there = (sizes if kind == "yardstick" else truth).sum(axis=0) > 0
    if kind == "yardstick" and not all(there[classes.index(one)] for one in ([wanted] if wanted else classes)):
        return None
    keep = [i for i, one in enumerate(classes) if there[i] and wanted in ("", one)]
    if not keep:
        return None
    return Ratios(tuple(matrices), tuple(classes[i] for i in keep), hits[:, keep], sizes[:, keep])


def _class_counts(matrix: Matrix, scheme: Scheme, *, dice: bool) -> list[list[int]]:
    confusion = class_confusion(matrix, scheme)
    first = 1 if scheme.undefined_column else 0
    hits = np.diagonal(confusion, offset=first)
    truth, said = confusion.sum(axis=1), confusion.sum(axis=0)[first:]
    if dice:
        return [(2 * hits).tolist(), (truth + said).tolist(), truth.tolist()]
    return [hits.tolist(), (truth + said - hits).tolist(), truth.tolist()]


def _yardstick_counts(matrix: Matrix, scheme: Scheme) -> list[list[int]]:
    """As `harness.scores.yardstick`, before dividing."""
    rows = [row for row, source_id in enumerate(scheme.source_ids) if source_id != UNDEFINED]
    defined, ids = matrix[rows], [scheme.source_ids[row] for row in rows]
    first = [False] if scheme.undefined_column else []
    found = []
    for name in ("tumor", "stroma"):
        true_rows = np.asarray([source_id in YARDSTICK[name] for source_id in ids])
        said = np.asarray([*first, *(set(members) <= YARDSTICK[name] for members in scheme.labels.classes.values())])
        truth = int(defined[true_rows].sum())
        found.append((2 * int(defined[np.ix_(true_rows, said)].sum()), truth + int(defined[:, said].sum()), truth))
    return [list(column) for column in zip(*found, strict=True)]
