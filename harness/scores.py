"""Exact scores: integer matrices in, float64 out. Numpy only; no score depends on batch size, order or a library.

A *source matrix* counts pixels: rows are source ids of the truth (TIGER: 0..7), columns are predicted classes 1..K in
the label map's order (with `undefined` as an extra first column under `as_paper`). Everything else folds from it.

IoU = TP / (TP + FP + FN) and Dice = 2 TP / (2 TP + FP + FN), over the pooled pixels of all ROIs. A class without a
pixel in the pooled truth is n/a (None) and is left out of the macro mean, so that the classes averaged are the same for
every model. The yardstick is the score of UNICORN challenge task 9: the mean of tumor Dice and stroma Dice after
merging to tumor = {1, 3}, stroma = {2, 6}, rest = everything else, dropping source id 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.config.labels import TIGER_IDS, UNDEFINED, LabelMap

Matrix = NDArray[np.int64]

# Part of every comparability group: raise it when a number would come out differently for the same matrices.
METRIC_VERSION = 1

YARDSTICK = {"tumor": frozenset({1, 3}), "stroma": frozenset({2, 6}), "rest": frozenset({4, 5, 7})}


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a source matrix's rows and columns mean."""

    source_ids: tuple[int, ...]
    labels: LabelMap
    source: str = "tiger"  # whose ids these are; only TIGER's have a yardstick
    undefined_column: bool = False  # `as_paper`: column 0 is a predicted `undefined`

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the matrix's columns."""
        return ("undefined", *self.labels.class_names) if self.undefined_column else self.labels.class_names


@dataclass(frozen=True, slots=True)
class RoiMatrices:
    """The counts of one validation ROI."""

    name: str
    patient: str
    centre: str
    resized: bool  # smaller than a patch, so it was enlarged before the network saw it
    matrix: Matrix
    matrix_non_homogeneous: Matrix  # the pixels in non-homogeneous cells only


def source_matrix(truth_HW: NDArray[np.uint8], predicted_HW: NDArray[np.uint8], scheme: Scheme) -> Matrix:
    """Count (source id, predicted class) pairs of one ROI.

    `predicted_HW` holds 1..K (0..K under `as_paper`). An id outside the scheme is a ValueError, never dropped.
    """
    columns = len(scheme.columns)
    first = 0 if scheme.undefined_column else 1
    pairs = np.bincount(truth_HW.ravel().astype(np.int64) * 256 + predicted_HW.ravel(), minlength=65536)
    counts = pairs.reshape(256, 256)
    matrix = counts[list(scheme.source_ids), first : first + columns]
    if matrix.sum() != truth_HW.size:
        raise ValueError("a mask or prediction holds a value outside the scheme")
    return matrix.astype(np.int64)


def class_confusion(matrix: Matrix, scheme: Scheme) -> Matrix:
    """Fold rows into classes: K rows (truth) by the matrix's columns; undefined and ignored ids are dropped."""
    folded = np.zeros((len(scheme.labels.classes), matrix.shape[1]), dtype=np.int64)
    for row, source_id in enumerate(scheme.source_ids):
        index = scheme.labels.class_of(source_id)
        if index is not None:
            folded[index - 1] += matrix[row]
    return folded


def overlap(confusion: Matrix, *, undefined_column: bool = False) -> tuple[list[float | None], list[float | None]]:
    """IoU and Dice per class of a K x K confusion (K x K+1 with a first `undefined` column); None without truth."""
    hits = np.diagonal(confusion, offset=1 if undefined_column else 0).astype(np.float64)
    truth = confusion.sum(axis=1).astype(np.float64)
    predicted = confusion.sum(axis=0)[1 if undefined_column else 0 :].astype(np.float64)
    iou: list[float | None] = []
    dice: list[float | None] = []
    for hit, true, said in zip(hits, truth, predicted, strict=True):
        iou.append(float(hit / (true + said - hit)) if true else None)
        dice.append(float(2 * hit / (true + said)) if true else None)
    return iou, dice


def macro(values: Iterable[float | None]) -> float | None:
    """The mean over the values that are there; None without any."""
    present = [value for value in values if value is not None]
    return float(np.mean(np.asarray(present, dtype=np.float64))) if present else None


def yardstick_refusal(scheme: Scheme) -> str | None:
    """Why this scheme has no yardstick, or None when it has one."""
    if scheme.source != "tiger" or not set(scheme.source_ids) <= set(TIGER_IDS):
        return "the source ids are not TIGER's"
    for name, ids in scheme.labels.classes.items():
        merged = {merge for merge, members in YARDSTICK.items() for source_id in ids if source_id in members}
        if len(merged) > 1:
            return f"class {name!r} holds ids of {' and '.join(sorted(merged))}"
    return None


def yardstick(matrix: Matrix, scheme: Scheme) -> dict[str, float | None]:
    """`{"yardstick", "yardstick_tumor", "yardstick_stroma"}`; None where n/a. Drops source id 0 and nothing else."""
    missing: dict[str, float | None] = {"yardstick": None, "yardstick_tumor": None, "yardstick_stroma": None}
    if yardstick_refusal(scheme) is not None:
        return missing
    rows = [row for row, source_id in enumerate(scheme.source_ids) if source_id != UNDEFINED]
    defined = matrix[rows]
    ids = [scheme.source_ids[row] for row in rows]
    first = 1 if scheme.undefined_column else 0
    result = dict(missing)
    for name in ("tumor", "stroma"):
        true_rows = np.asarray([source_id in YARDSTICK[name] for source_id in ids])
        said = np.asarray(
            [False] * first + [set(members) <= YARDSTICK[name] for members in scheme.labels.classes.values()]
        )
        hits = int(defined[np.ix_(true_rows, said)].sum())
        total = int(defined[true_rows].sum()) + int(defined[:, said].sum())
        result[f"yardstick_{name}"] = 2 * hits / total if total else None
    tumor, stroma = result["yardstick_tumor"], result["yardstick_stroma"]
    result["yardstick"] = None if tumor is None or stroma is None else (tumor + stroma) / 2
    return result


def pooled(matrices: Sequence[Matrix]) -> Matrix:
    """The sum of the matrices: pooling over ROIs."""
    total: Matrix = np.sum(np.stack(matrices), axis=0, dtype=np.int64)
    return total


def score_matrix(matrix: Matrix, scheme: Scheme, *, per_class: bool = True) -> dict[str, float | None]:
    """`iou`, `dice`, `yardstick*` and, if asked, `iou_<class>` and `dice_<class>` of one pooled source matrix."""
    confusion = class_confusion(matrix, scheme)
    iou, dice = overlap(confusion, undefined_column=scheme.undefined_column)
    scores: dict[str, float | None] = {"iou": macro(iou), "dice": macro(dice), **yardstick(matrix, scheme)}
    if per_class:
        for name, class_iou, class_dice in zip(scheme.labels.class_names, iou, dice, strict=True):
            scores[f"iou_{name}"] = class_iou
            scores[f"dice_{name}"] = class_dice
    return scores


def score_rois(rois: Sequence[RoiMatrices], scheme: Scheme) -> dict[str, float | None]:
    """Every exact score of a validation set as one flat dictionary.

    `val/...` over all ROIs, `val/non_homogeneous/...` over pixels in non-homogeneous cells, `val/not_resized/...`
    without enlarged ROIs (only if there are some), `val/centre/<name>/...` (only if there are several).
    """
    scores = _prefixed("val", [roi.matrix for roi in rois], scheme)
    scores |= _prefixed("val/non_homogeneous", [roi.matrix_non_homogeneous for roi in rois], scheme)
    if any(roi.resized for roi in rois):
        whole = [roi.matrix for roi in rois if not roi.resized]
        scores |= _prefixed("val/not_resized", whole, scheme) if whole else {}
    centres = sorted({roi.centre for roi in rois})
    if len(centres) > 1:
        for centre in centres:
            members = [roi.matrix for roi in rois if roi.centre == centre]
            scores |= _prefixed(f"val/centre/{centre}", members, scheme)
    return scores


def support(matrix: Matrix, scheme: Scheme) -> dict[str, int]:
    """True pixels per class in a pooled source matrix."""
    counts = class_confusion(matrix, scheme).sum(axis=1)
    return {name: int(count) for name, count in zip(scheme.labels.class_names, counts, strict=True)}


def metric_names(labels: LabelMap) -> tuple[str, ...]:
    """The exact scores that an objective, a schedule or early stopping may watch."""
    classes = [f"{kind}_{name}" for kind in ("iou", "dice") for name in labels.class_names]
    names = ["iou", "dice", "yardstick", "yardstick_tumor", "yardstick_stroma", *classes]
    return tuple(f"{part}/{name}" for part in ("val", "val/non_homogeneous") for name in names)


def scores_document(
    rois: Sequence[RoiMatrices], scheme: Scheme, *, epoch: int, epochs: Sequence[Mapping[str, object]]
) -> dict[str, object]:
    """The content of `scores.json`: everything needed to recompute every score, now or with other merges."""
    return {
        "metric_version": METRIC_VERSION,
        "source": scheme.source,
        "source_ids": list(scheme.source_ids),
        "classes": list(scheme.columns),
        "labels": {name: list(ids) for name, ids in scheme.labels.classes.items()},
        "ignore_ids": list(scheme.labels.ignore_ids),
        "label_map": scheme.labels.name,
        "epoch": epoch,
        "rois": [
            {
                "name": roi.name,
                "patient": roi.patient,
                "centre": roi.centre,
                "resized": roi.resized,
                "matrix": roi.matrix.tolist(),
                "matrix_non_homogeneous": roi.matrix_non_homogeneous.tolist(),
            }
            for roi in rois
        ],
        "epochs": list(epochs),
    }


def read_scores(document: Mapping[str, object]) -> tuple[list[RoiMatrices], Scheme]:
    """The ROIs and scheme of a `scores.json` document."""
    value: dict[str, object] = dict(document)
    columns = value["classes"]
    labels = LabelMap.model_validate(
        {"name": value["label_map"], "classes": value["labels"], "ignore_ids": value["ignore_ids"]}
    )
    assert isinstance(columns, list)
    scheme = Scheme(
        source_ids=tuple(value["source_ids"]),  # type: ignore[arg-type]  # JSON: checked by the matrices' shapes
        labels=labels,
        source=str(value["source"]),
        undefined_column=len(columns) == len(labels.classes) + 1,
    )
    rois = [
        RoiMatrices(
            name=roi["name"],
            patient=roi["patient"],
            centre=roi["centre"],
            resized=roi["resized"],
            matrix=np.asarray(roi["matrix"], dtype=np.int64),
            matrix_non_homogeneous=np.asarray(roi["matrix_non_homogeneous"], dtype=np.int64),
        )
        for roi in value["rois"]  # type: ignore[attr-defined]  # JSON list of objects
    ]
    return rois, scheme


def _prefixed(prefix: str, matrices: Sequence[Matrix], scheme: Scheme) -> dict[str, float | None]:
    return {f"{prefix}/{name}": value for name, value in score_matrix(pooled(matrices), scheme).items()}
