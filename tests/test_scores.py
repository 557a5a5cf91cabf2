"""Exact scores against hand-computed cases and against an independent pixel-level implementation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.config.labels import BUILTIN, LabelMap
from harness.scores import (
    RoiMatrices,
    Scheme,
    class_confusion,
    metric_names,
    overlap,
    read_scores,
    score_matrix,
    score_rois,
    scores_document,
    source_matrix,
    yardstick,
    yardstick_refusal,
)

TIGER7 = Scheme(tuple(range(8)), BUILTIN["tiger7"])
UNICORN3 = Scheme(tuple(range(8)), BUILTIN["unicorn3"])


def pixels(seed: int, classes: int, size: int = 400) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Random truth (source ids 0..7) and prediction (1..classes) with some agreement."""
    rng = np.random.default_rng(seed)
    present = rng.choice(8, size=rng.integers(1, 8), replace=False)
    truth = rng.choice(present, size=(size // 20, 20)).astype(np.uint8)
    predicted = rng.integers(1, classes + 1, truth.shape).astype(np.uint8)
    return truth, predicted


def test_dice_of_half_overlap_is_two_thirds() -> None:
    """Truth: 10 px of class 1 and 10 of class 2; predicted: class 1 in 20: Dice 1 = 2*10/(10+20), IoU 1 = 10/20."""
    labels = LabelMap(name="two", classes={"one": (1,), "two": (2,)})
    truth = np.repeat([[1, 2]], 10).astype(np.uint8)[None]
    matrix = source_matrix(truth, np.ones_like(truth), Scheme((0, 1, 2), labels))
    scores = score_matrix(matrix, Scheme((0, 1, 2), labels))
    assert scores["dice_one"] == pytest.approx(2 / 3, abs=1e-15)
    assert scores["iou_one"] == 0.5
    assert scores["dice_two"] == scores["iou_two"] == 0.0
    assert scores["dice"] == pytest.approx(1 / 3, abs=1e-15)


def test_a_class_absent_from_the_truth_is_left_out_of_the_mean() -> None:
    """Predicting it still costs the classes that are there."""
    labels = LabelMap(name="three", classes={"one": (1,), "two": (2,), "three": (3,)})
    truth = np.array([[1, 1, 2, 2]], dtype=np.uint8)
    predicted = np.array([[1, 3, 2, 2]], dtype=np.uint8)
    scores = score_matrix(source_matrix(truth, predicted, Scheme((0, 1, 2, 3), labels)), Scheme((0, 1, 2, 3), labels))
    assert scores["iou_three"] is None
    assert scores["iou"] == (0.5 + 1.0) / 2


def test_undefined_and_ignored_pixels_do_not_count() -> None:
    """Source 0 and the map's ignore_ids are dropped from the truth and, there, from the prediction."""
    labels = LabelMap(name="m", classes={"one": (1,), "two": (2,)}, ignore_ids=(3,))
    scheme = Scheme((0, 1, 2, 3), labels)
    truth = np.array([[1, 2, 0, 0, 3, 3]], dtype=np.uint8)
    predicted = np.array([[1, 2, 1, 2, 1, 2]], dtype=np.uint8)
    scores = score_matrix(source_matrix(truth, predicted, scheme), scheme)
    assert scores["iou"] == 1.0


def test_predicting_undefined_is_an_error_elsewhere_and_rest_for_the_yardstick() -> None:
    """Under `as_paper` the first column is a predicted `undefined`."""
    scheme = Scheme(tuple(range(8)), BUILTIN["unicorn3"], undefined_column=True)
    truth = np.array([[1, 1, 2, 2, 7, 0]], dtype=np.uint8)
    predicted = np.array([[1, 0, 2, 2, 0, 0]], dtype=np.uint8)
    scores = score_matrix(source_matrix(truth, predicted, scheme), scheme)
    assert scores["iou_tumor"] == 0.5
    assert scores["iou_stroma"] == 1.0
    assert scores["iou_rest"] == 0.0
    assert scores["yardstick_tumor"] == pytest.approx(2 / 3)
    assert scores["yardstick_stroma"] == 1.0


def test_an_id_outside_the_scheme_is_an_error_not_a_dropped_pixel() -> None:
    """No silent loss of pixels."""
    with pytest.raises(ValueError, match="outside the scheme"):
        source_matrix(np.full((2, 2), 9, np.uint8), np.ones((2, 2), np.uint8), TIGER7)
    with pytest.raises(ValueError, match="outside the scheme"):
        source_matrix(np.ones((2, 2), np.uint8), np.zeros((2, 2), np.uint8), TIGER7)


@given(st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_overlap_equals_counting_pixels(seed: int) -> None:
    """IoU and Dice of every class equal boolean masks counted one by one."""
    truth, predicted = pixels(seed, 3)
    table = np.array([0, 1, 2, 1, 3, 3, 2, 3])
    true_class = table[truth]
    scores = score_matrix(source_matrix(truth, predicted, UNICORN3), UNICORN3)
    for index, name in enumerate(("tumor", "stroma", "rest"), start=1):
        is_true = true_class == index
        is_said = (predicted == index) & (true_class > 0)
        if not is_true.any():
            assert scores[f"iou_{name}"] is None
            continue
        assert scores[f"iou_{name}"] == pytest.approx((is_true & is_said).sum() / (is_true | is_said).sum(), abs=1e-12)
        assert scores[f"dice_{name}"] == pytest.approx(
            2 * (is_true & is_said).sum() / (is_true.sum() + is_said.sum()), abs=1e-12
        )


def test_the_yardstick_is_na_for_foreign_ids() -> None:
    """Ids that are not TIGER's cannot be judged; maps that straddle the merge are tested in test_yardstick.py."""
    foreign = Scheme((0, 1, 2), LabelMap(name="m", classes={"a": (1,), "b": (2,)}), source="other")
    assert yardstick_refusal(foreign) == "the source ids are not TIGER's"
    matrix = np.ones((3, 2), dtype=np.int64)
    assert yardstick(matrix, foreign) == {"yardstick": None, "yardstick_tumor": None, "yardstick_stroma": None}


def roi(name: str, centre: str, seed: int, *, resized: bool = False) -> RoiMatrices:
    """One ROI of random pixels, half of them in non-homogeneous cells."""
    truth, predicted = pixels(seed, 3)
    half = source_matrix(truth[:10], predicted[:10], UNICORN3)
    return RoiMatrices(name, f"patient {name}", centre, resized, source_matrix(truth, predicted, UNICORN3), half)


def test_scores_json_gives_back_every_score() -> None:
    """Writing and reading scores.json loses nothing, and pooling is a sum of matrices."""
    rois = [roi("a", "A2", 1), roi("b", "RUMC", 2), roi("c", "RUMC", 3, resized=True)]
    document = json.loads(json.dumps(scores_document(rois, UNICORN3, epoch=4, epochs=[])))
    read, scheme = read_scores(document)
    scores = score_rois(rois, UNICORN3)
    assert score_rois(read, scheme) == scores
    assert document["epoch"] == 4
    pooled = rois[0].matrix + rois[1].matrix + rois[2].matrix
    assert scores["val/iou"] == score_matrix(pooled, UNICORN3)["iou"]
    assert scores["val/not_resized/dice"] == score_matrix(rois[0].matrix + rois[1].matrix, UNICORN3)["dice"]
    assert scores["val/centre/RUMC/iou_tumor"] == score_matrix(rois[1].matrix + rois[2].matrix, UNICORN3)["iou_tumor"]
    assert {"val/centre/A2/iou", "val/non_homogeneous/yardstick"} <= set(scores)


def test_every_watchable_score_exists() -> None:
    """What an objective may be named is what evaluation yields."""
    scores = score_rois([roi("a", "A2", 1)], UNICORN3)
    assert set(metric_names(BUILTIN["unicorn3"])) <= set(scores)


def test_confusion_rows_are_the_classes_pixels() -> None:
    """Rows sum to the true pixels of each class."""
    truth, predicted = pixels(5, 3)
    confusion = class_confusion(source_matrix(truth, predicted, UNICORN3), UNICORN3)
    expected = [int(np.isin(truth, ids).sum()) for ids in ([1, 3], [2, 6], [4, 5, 7])]
    assert confusion.sum(axis=1).tolist() == expected
    iou, dice = overlap(confusion)
    assert all(
        i is None or (d is not None and abs(d - 2 * i / (1 + i)) < 1e-12) for i, d in zip(iou, dice, strict=True)
    )
