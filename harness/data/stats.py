"""Counts of a cohort, ready for JSON: what one should know before training on it.

Two sources: the facts of a checked cohort (pixels per source id), and `count_cohort`, which cuts the masks as training
does and so knows about patches, too. Neither needs a patch store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.labels import UNDEFINED, LabelMap
from harness.config.spec import Cut, Split
from harness.data.check import Checked
from harness.data.cutting import cut_mask, grid_of
from harness.data.patches import are_mixed, counts_by_class
from harness.data.png import read_mask
from harness.data.splits import ROLES, presence_of
from harness.data.tiger import Roi

TINY_PX = 256  # the paper's patch: a shorter side is enlarged
ALL = "all"  # the row above the roles of a split


@dataclass(frozen=True, eq=False)
class CohortCounts:
    """Source ids of a cohort's masks, whole and cut into patches, before any label map and any split."""

    rois: tuple[Roi, ...]
    cut: Cut
    sizes_R2: NDArray[np.int64]  # height and width of every ROI in pixels
    id_counts_RI: NDArray[np.uint32]  # (R, 256) pixels of each source id in each ROI
    roi_N: NDArray[np.int64]  # (N,) place in `rois` of every patch, in the order of a patch store
    id_counts_NI: NDArray[np.uint32]  # (N, 256) pixels of each source id in each patch, at `cut.input_px`

    @cached_property
    def presence(self) -> dict[str, frozenset[int]]:
        """{patient: source ids that occur in any of their ROIs}, as `splits.make_split` takes it."""
        each = zip(self.rois, self.id_counts_RI, strict=True)
        return presence_of((roi.patient, np.flatnonzero(counts).tolist()) for roi, counts in each)


@dataclass(frozen=True, slots=True)
class ClassCount:
    """One class in a cohort."""

    pixels: int
    pixel_share: float | None  # of the defined pixels
    patches: int  # that hold the class at all
    patch_share: float | None  # of all patches
    homogeneous: int  # of those, the ones in which no second class has `min_share`, and this one is the first
    homogeneous_share: float | None  # of the patches that hold the class


@dataclass(frozen=True, slots=True)
class RoleCount:
    """One role of a split, or all of it."""

    role: str
    patients: int
    rois: int
    centres: Mapping[str, int]  # ROIs of each
    pixels: int
    undefined_share: float | None  # pixels in no class, of all pixels
    patches: int
    non_homogeneous: int
    classes: Mapping[str, int]  # pixels of each


def count_cohort(
    rois: Sequence[Roi], cut: Cut, *, on_progress: Callable[[int, int], None] | None = None
) -> CohortCounts:
    """Read every mask once, whole and cut; memory is one mask and 1 kB a patch. `on_progress(done, total)` counts ROIs.

    Raises BadInput for a mask that cannot be read.
    """
    sizes, whole, of_patch = [], [], []
    for done, roi in enumerate(rois, start=1):
        mask_HW, _ = read_mask(roi.mask)
        grid = grid_of(mask_HW.shape[0], mask_HW.shape[1], roi.mpp, cut)
        sizes.append(mask_HW.shape)
        whole.append(_id_counts([mask_HW])[0])
        of_patch.append(_id_counts([mask for _, _, mask in cut_mask(mask_HW, grid, cut)]))
        if on_progress:
            on_progress(done, len(rois))
    return CohortCounts(
        rois=tuple(rois),
        cut=cut,
        sizes_R2=np.array(sizes, np.int64).reshape(-1, 2),
        id_counts_RI=np.array(whole, np.uint32).reshape(-1, 256),
        roi_N=np.repeat(np.arange(len(rois)), [len(counts) for counts in of_patch]),
        id_counts_NI=np.concatenate([np.zeros((0, 256), np.uint32), *of_patch]),
    )


def class_table(counts: CohortCounts, labels: LabelMap, *, min_share: float) -> dict[str, ClassCount]:
    """Every class of the map in the whole cohort, in the map's order; patches are judged as training judges them."""
    pixels_K = counts_by_class(counts.id_counts_RI, labels).sum(axis=0)
    patches_NK = counts_by_class(counts.id_counts_NI, labels)
    mixed_N = are_mixed(patches_NK, min_share)
    table = {}
    for k, name in enumerate(labels.class_names):
        holding = int((patches_NK[:, k] > 0).sum())
        alone = int((~mixed_N & (patches_NK[:, k] > 0) & (patches_NK.argmax(axis=1) == k)).sum())
        table[name] = ClassCount(
            pixels=int(pixels_K[k]),
            pixel_share=_share(pixels_K[k], pixels_K.sum()),
            patches=holding,
            patch_share=_share(holding, len(patches_NK)),
            homogeneous=alone,
            homogeneous_share=_share(alone, holding),
        )
    return table


def role_table(
    counts: CohortCounts, labels: LabelMap, split: Split | None, *, min_share: float
) -> tuple[RoleCount, ...]:
    """The whole cohort, then every role of the split that has a patient."""
    pixels_RK = counts_by_class(counts.id_counts_RI, labels)
    mixed_N = are_mixed(counts_by_class(counts.id_counts_NI, labels), min_share)
    rows = []
    for role, patients in _roles(counts, split):
        inside_R = np.array([roi.patient in patients for roi in counts.rois], dtype=bool)
        members = [roi for roi, inside in zip(counts.rois, inside_R, strict=True) if inside]
        pixels, defined = int(counts.id_counts_RI[inside_R].sum(dtype=np.int64)), pixels_RK[inside_R].sum(axis=0)
        inside_N = inside_R[counts.roi_N]
        rows.append(
            RoleCount(
                role=role,
                patients=len({roi.patient for roi in members}),
                rois=len(members),
                centres=dict(sorted(Counter(roi.centre for roi in members).items())),
                pixels=pixels,
                undefined_share=_share(pixels - int(defined.sum()), pixels),
                patches=int(inside_N.sum()),
                non_homogeneous=int((inside_N & mixed_N).sum()),
                classes=dict(zip(labels.class_names, defined.tolist(), strict=True)),
            )
        )
    return tuple(rows)


def cohort_stats(checked: Checked) -> dict[str, Any]:
    """Regions, patients, centres, sizes, and pixels per source id with shares of the defined pixels."""
    facts = [checked.facts[roi.name] for roi in checked.rois]
    pixels: Counter[int] = Counter()
    for fact in facts:
        pixels.update(fact.label_counts)
    total = sum(pixels.values())
    defined = total - pixels[UNDEFINED]
    unknown = sorted({roi.patient for roi in checked.rois if not roi.patient_known})
    return {
        "rois": len(checked.rois),
        "patients": len({roi.patient for roi in checked.rois}),
        "patients_not_known": unknown,
        "centres": _centres(checked),
        "pixels": total,
        "undefined_share": pixels[UNDEFINED] / total if total else None,
        "source_ids": {
            str(label): {
                "pixels": pixels[label],
                "share_of_defined": pixels[label] / defined if defined else None,
            }
            for label in sorted(pixels)
            if label != UNDEFINED
        },
        "height_px": _spread([fact.height_px for fact in facts]),
        "width_px": _spread([fact.width_px for fact in facts]),
        "tiny_rois": sum(1 for fact in facts if min(fact.height_px, fact.width_px) < TINY_PX),
        "tiny_px": TINY_PX,
        "defects": dict(sorted(Counter(defect.kind for defect in checked.defects).items())),
        "data_hash": checked.data_hash,
    }


def labelled_stats(counts: CohortCounts, labels: LabelMap, split: Split | None, *, min_share: float) -> dict[str, Any]:
    """Classes and roles under one label map, as `harness data stats --json` adds them to `cohort_stats`."""
    return {
        "labels": labels.name,
        "patch_px": counts.cut.patch_px,
        "min_share": min_share,
        "classes": {name: asdict(found) for name, found in class_table(counts, labels, min_share=min_share).items()},
        "roles": [asdict(row) for row in role_table(counts, labels, split, min_share=min_share)],
    }


def _roles(counts: CohortCounts, split: Split | None) -> list[tuple[str, Collection[str]]]:
    named = [(role, frozenset(getattr(split, role))) for role in ROLES] if split else []
    return [(ALL, frozenset(counts.presence)), *((role, patients) for role, patients in named if patients)]


def _id_counts(masks_HW: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint32]:
    """(n, 256) pixels of each source id."""
    counted = [np.bincount(mask.ravel(), minlength=256) for mask in masks_HW]
    return np.array(counted, np.uint32).reshape(-1, 256)


def _share(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None


def _centres(checked: Checked) -> dict[str, dict[str, int]]:
    names = sorted({roi.centre for roi in checked.rois})
    members = {name: [roi for roi in checked.rois if roi.centre == name] for name in names}
    return {name: {"rois": len(rois), "patients": len({roi.patient for roi in rois})} for name, rois in members.items()}


def _spread(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)}
