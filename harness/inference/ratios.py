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
from harness.scores import YARDSTICK, Matrix, RoiMatrices, Scheme, yardstick_refusal

Array = NDArray[np.float64]
PARTS = ("val", "val/non_homogeneous")
KINDS = ("iou", "dice", "yardstick")


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
    if part not in PARTS or name.partition("_")[0] not in KINDS:
        raise ValueError(f"{metric} has no counts per patient")
    mixed = part != PARTS[0]
    patients = tuple(sorted({roi.patient for roi in rois}))
    matrices_PSC = np.stack([
        np.sum([roi.matrix_non_homogeneous if mixed else roi.matrix for roi in rois if roi.patient == patient], axis=0)
        for patient in patients
    ])  # fmt: skip
    found = ratios_of_epochs(matrices_PSC[None], patients, scheme, name)
    return found[0] if found else None


def ratios_of_epochs(matrices_EPSC: Matrix, patients: tuple[str, ...], scheme: Scheme, name: str) -> tuple[Ratios, ...]:
    """The same for E epochs of one source matrix a patient; `name` is `iou`, `dice_tumor`, ... Empty where n/a."""
    kind, _, wanted = name.partition("_")
    if kind == "yardstick" and yardstick_refusal(scheme) is not None:
        return ()
    merges = _yardstick_merges(scheme) if kind == "yardstick" else _class_merges(scheme)
    columns = np.asarray(matrices_EPSC, dtype=np.float64)[..., 1 if scheme.undefined_column else 0 :]
    truth = np.einsum("epsc,ks->epk", np.asarray(matrices_EPSC, dtype=np.float64), merges.rows)
    said = np.einsum("epsc,s,kc->epk", columns, merges.counted, merges.columns)
    hits = np.einsum("epsc,ks,kc->epk", columns, merges.rows, merges.columns)
    hits, sizes = (hits, truth + said - hits) if kind == "iou" else (2 * hits, truth + said)
    # The yardstick is n/a only where a class is in neither truth nor prediction; the others need truth.
    there = (sizes if kind == "yardstick" else truth).sum(axis=1).min(axis=0) > 0
    keep = [i for i, one in enumerate(merges.names) if there[i] and wanted in ("", one)]
    if not keep or (kind == "yardstick" and len(keep) < (1 if wanted else len(merges.names))):
        return ()
    names = tuple(merges.names[i] for i in keep)
    return tuple(Ratios(patients, names, h[:, keep], s[:, keep]) for h, s in zip(hits, sizes, strict=True))


@dataclass(frozen=True, slots=True)
class _Merges:
    """Which source ids and which predicted classes make up each of K classes, as 0 and 1."""

    names: tuple[str, ...]
    rows: Array  # (K, S)
    columns: Array  # (K, C), without a column of predicted `undefined`
    counted: Array  # (S,): source ids whose pixels count at all


def _class_merges(scheme: Scheme) -> _Merges:
    classes = scheme.labels.classes
    rows = np.array([[float(source_id in ids) for source_id in scheme.source_ids] for ids in classes.values()])
    return _Merges(scheme.labels.class_names, rows, np.eye(len(classes)), rows.sum(axis=0))


def _yardstick_merges(scheme: Scheme) -> _Merges:
    """As `harness.scores.yardstick`: all ids but 0 count."""
    names = ("tumor", "stroma")
    members = [YARDSTICK[name] for name in names]
    rows = np.array([[float(source_id in ids) for source_id in scheme.source_ids] for ids in members])
    columns = np.array([[float(set(own) <= ids) for own in scheme.labels.classes.values()] for ids in members])
    counted = np.array([float(source_id != UNDEFINED) for source_id in scheme.source_ids])
    return _Merges(names, rows, columns, counted)
