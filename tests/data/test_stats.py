"""Counts, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harness.data.check import check_cohort
from harness.data.stats import cohort_stats
from harness.data.tiger import read_cohort


def test_stats_count_regions_patients_centres_and_pixels(cohort) -> None:
    """Three regions of two patients: a quarter of the pixels of the first is undefined."""
    first = np.ones((300, 400), np.uint8)
    first[:150, :200] = 0
    cohort.add("TCGA-A2-A0D2-DX1_[0, 0, 400, 300]", first, seed=1)
    cohort.add("TCGA-A2-A0D2-DX1_[5, 5, 165, 135]", np.full((130, 160), 7, np.uint8), folder="tissue-cells", seed=2)
    cohort.add("somewhere-else", np.full((300, 300), 7, np.uint8), seed=3)
    stats = cohort_stats(check_cohort(read_cohort(cohort.root)))
    assert (stats["rois"], stats["patients"], stats["tiny_rois"]) == (3, 2, 1)
    assert stats["patients_not_known"] == ["somewhere-else"]
    assert stats["centres"] == {"A2": {"rois": 2, "patients": 1}, "unknown": {"rois": 1, "patients": 1}}
    assert stats["pixels"] == 120_000 + 20_800 + 90_000
    assert stats["undefined_share"] == pytest.approx(30_000 / 230_800)
    assert stats["source_ids"]["1"] == {"pixels": 90_000, "share_of_defined": pytest.approx(90_000 / 200_800)}
    assert stats["source_ids"]["7"]["pixels"] == 110_800
    assert stats["height_px"] == {"min": 130, "median": 300.0, "max": 300}
    assert json.loads(json.dumps(stats)) == stats


def test_an_unusable_cohort_has_counts_too(cohort) -> None:
    """Nothing left: zeros and n/a, and what was wrong."""
    cohort.add("100B_[0, 0, 48, 32]", np.zeros((32, 48), np.uint8))
    stats = cohort_stats(check_cohort(read_cohort(cohort.root)))
    assert (stats["rois"], stats["undefined_share"], stats["height_px"]) == (0, None, None)
    assert stats["defects"] == {"undefined_mask": 1}
