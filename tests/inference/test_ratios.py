"""Scores as ratios of counts per patient: the same numbers as the exact scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.labels import LabelMap
from harness.inference.ratios import ratios_of
from harness.scores import RoiMatrices, Scheme, score_rois

IDS = tuple(range(8))
UNICORN3 = LabelMap.model_validate(
    {"name": "unicorn3", "classes": {"tumor": [1, 3], "stroma": [2, 6], "rest": [4, 5, 7]}}
)
METRICS = ("iou", "dice", "yardstick", "yardstick_tumor", "iou_tumor", "dice_rest")


def rois_of(counts: np.ndarray, patients: list[int]) -> list[RoiMatrices]:
    return [
        RoiMatrices(f"r{i}", f"p{patient}", "c", False, matrix, matrix // 2)
        for i, (matrix, patient) in enumerate(zip(counts, patients, strict=True))
    ]


@given(st.integers(0, 10_000), st.booleans())
def test_every_score_is_the_mean_of_its_ratios(seed: int, undefined_column: bool) -> None:
    """Also with absent classes, several regions a patient, and a column of predicted `undefined`."""
    random = np.random.default_rng(seed)
    columns = 4 if undefined_column else 3
    counts = random.integers(0, 30, (5, 8, columns)) * (random.random((5, 8, 1)) < 0.4)
    rois = rois_of(counts.astype(np.int64), random.integers(0, 3, 5).tolist())
    scheme = Scheme(IDS, UNICORN3, undefined_column=undefined_column)
    scores = score_rois(rois, scheme)
    for part in ("val", "val/non_homogeneous"):
        for name in METRICS:
            found = ratios_of(rois, scheme, f"{part}/{name}")
            expected = scores[f"{part}/{name}"]
            assert (found is None) == (expected is None), (name, found, expected)
            if found is not None and expected is not None:
                assert found.score == pytest.approx(expected, abs=1e-12)


def test_a_map_that_mixes_tumor_and_stroma_has_no_yardstick() -> None:
    """Its other scores are there."""
    mixed = LabelMap.model_validate({"name": "m", "classes": {"a": [1, 2], "b": [3, 4, 5, 6, 7]}})
    rois = rois_of(np.ones((2, 8, 2), dtype=np.int64), [0, 1])
    assert ratios_of(rois, Scheme(IDS, mixed), "val/yardstick") is None
    assert ratios_of(rois, Scheme(IDS, mixed), "val/iou") is not None


@pytest.mark.parametrize("metric", ["val/loss", "val/centre/A/iou", "paper/val/iou"])
def test_what_has_no_counts_per_patient_is_refused(metric: str) -> None:
    """A loss, a mean over patches, and a part of the patients."""
    with pytest.raises(ValueError, match="no counts per patient"):
        ratios_of([], Scheme(IDS, UNICORN3), metric)
