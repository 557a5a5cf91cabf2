"""Counts of a checked cohort, ready for JSON: what one should know before training on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.config.labels import UNDEFINED
from harness.data.check import Checked

TINY_PX = 256  # the paper's patch: a shorter side is enlarged


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


def _centres(checked: Checked) -> dict[str, dict[str, int]]:
    names = sorted({roi.centre for roi in checked.rois})
    members = {name: [roi for roi in checked.rois if roi.centre == name] for name in names}
    return {name: {"rois": len(rois), "patients": len({roi.patient for roi in rois})} for name, rois in members.items()}


def _spread(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)}
