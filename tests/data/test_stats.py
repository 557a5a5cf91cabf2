"""Counts, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harness.config.labels import LabelMap
from harness.config.spec import Cut, Split
from harness.data.check import check_cohort
from harness.data.cohort import read_cohort
from harness.data.patches import non_homogeneous, open_store, patches_of
from harness.data.stats import class_table, cohort_stats, count_cohort, role_table
from tests.toy import LABELS, write_cohort


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


def test_a_class_counts_pixels_and_patches_and_where_it_is_alone(cohort) -> None:
    """Six patches of 16 px: two of class a, one of b, one half and half, one with 3 % of b in a, one undefined."""
    mask = np.ones((32, 48), np.uint8)
    mask[:16, 32:] = 2  # top right: b alone
    mask[16:, :8] = 2  # bottom left: half and half
    mask[16:20, 16:18] = 2  # bottom middle: 8 of 256 pixels are b, under 5 %
    mask[16:, 32:] = 0
    cohort.add("100B_[0, 0, 48, 32]", mask)
    labels = LabelMap(name="two", classes={"a": (1,), "b": (2,)})
    counts = count_cohort(read_cohort(cohort.root), Cut(patch_px=16, input_px=16, stride=16))
    table = class_table(counts, labels, min_share=0.05)
    assert (table["a"].pixels, table["b"].pixels) == (256 + 256 + 128 + 248, 256 + 128 + 8)
    assert (table["a"].patches, table["a"].homogeneous) == (4, 3)
    assert (table["b"].patches, table["b"].homogeneous) == (3, 1)
    assert table["b"].pixel_share == pytest.approx(392 / 1280)
    assert table["b"].patch_share == pytest.approx(3 / 6)
    assert table["a"].homogeneous_share == pytest.approx(3 / 4)
    (row,) = role_table(counts, labels, None, min_share=0.05)
    assert (row.patches, row.non_homogeneous, row.undefined_share) == (6, 1, pytest.approx(256 / 1536))


@pytest.mark.parametrize("remainder", ["shift", "drop", "pad"])
def test_patches_are_counted_as_a_store_holds_them(remainder, tmp_path) -> None:
    """Resampled, enlarged, overlapping: the same pixels per id, the same non-homogeneous patches in train."""
    root = write_cohort(
        tmp_path / "data", {"TCGA-A2-A0A1": (64, 90), "TCGA-A2-A0B1": (30, 70), "TCGA-A2-A0C1": (80, 41)}
    )
    rois, cut = read_cohort(root), Cut(mpp=0.6, patch_px=40, input_px=32, stride=24, remainder=remainder)
    counts = count_cohort(rois, cut)
    store = open_store(tmp_path / "stores", rois, cut, data_hash="x")
    assert np.array_equal(counts.id_counts_NI, store.id_counts_NI)
    assert np.array_equal(counts.roi_N, store.index["roi"])
    split = Split(train=("TCGA-A2-A0A1", "TCGA-A2-A0B1"), validation=("TCGA-A2-A0C1",))
    everyone, train, validation = role_table(counts, LABELS, split, min_share=0.42)
    mixed = non_homogeneous(store, patches_of(store, split.train), LABELS, 0.42)
    assert 0 < train.non_homogeneous == len(mixed) < train.patches
    assert train.pixels + validation.pixels == everyone.pixels == 64 * 90 + 30 * 70 + 80 * 41
    assert (everyone.role, train.role, validation.role) == ("all", "train", "validation")
