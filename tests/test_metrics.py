"""The paper's metrics: small cases by hand, the two modes against each other, counts against torchmetrics."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.segmentation import DiceScore, MeanIoU

from harness.config.labels import IGNORE
from harness.metrics import PaperCounts, PaperMetrics, _counted_by_code, _counted_by_comparison

torch.set_num_threads(1)


def _scores(predictions, masks, *, classes, undefined="ignore"):
    """By torchmetrics; the counts have to say the same."""
    metrics = PaperMetrics(classes=classes, undefined=undefined)
    counts = PaperCounts(classes=classes, undefined=undefined)
    for one in (metrics, counts):
        one.update(torch.tensor(predictions), torch.tensor(masks))
    assert counts.compute() == pytest.approx(metrics.compute(), abs=1e-6)
    return metrics.compute()


def test_dice_of_half_overlap_is_two_thirds():
    """Truth: 2 pixels of class 0; one is hit, one is called class 1: Dice 2/3 and 0, IoU 1/2 and 0."""
    scores = _scores([[[0, 1]]], [[[0, 0]]], classes=2)
    assert scores["dice"] == pytest.approx((2 / 3 + 0) / 2)
    assert scores["iou"] == pytest.approx((1 / 2 + 0) / 2)


def test_a_class_that_a_patch_lacks_does_not_count_there():
    """Both scores average over the classes in truth or prediction; class 2 is in neither."""
    scores = _scores([[[0, 1, 1, 1]]], [[[0, 0, 1, 1]]], classes=3)
    assert scores["dice"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert scores["iou"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_iou_averages_over_patch_and_class_pairs_and_dice_over_patches():
    """Patch 1 is perfect with 1 class; patch 2 has 2 classes: IoU 1/2 and 2/3, Dice 2/3 and 4/5."""
    scores = _scores([[[0, 0, 0, 0]], [[0, 1, 1, 1]]], [[[0, 0, 0, 0]], [[0, 0, 1, 1]]], classes=2)
    assert scores["iou"] == pytest.approx((1 + 1 / 2 + 2 / 3) / 3)
    assert scores["dice"] == pytest.approx((1 + (2 / 3 + 4 / 5) / 2) / 2)


def test_undefined_pixels_do_not_count_when_ignored():
    """The wrong answer stands on an undefined pixel: perfect scores."""
    assert _scores([[[0, 1, 1]]], [[[0, 1, IGNORE]]], classes=2) == {"iou": 1.0, "dice": 1.0}


def test_undefined_is_a_class_as_paper():
    """Truth 0, 1, 1 and prediction 1, 1, 1: class 0 scores 0 (IoU and Dice), class 1 scores 2/3 and 4/5."""
    scores = _scores([[[1, 1, 1]]], [[[0, 1, 1]]], classes=3, undefined="as_paper")
    assert scores["iou"] == pytest.approx((0 + 2 / 3) / 2)
    assert scores["dice"] == pytest.approx((0 + 4 / 5) / 2)


def test_a_wholly_undefined_patch_is_left_out_and_alone_it_has_no_score():
    """Beside a perfect patch it changes nothing; alone the score is n/a, not 0 and not NaN."""
    perfect_and_void = _scores([[[0, 1]], [[0, 1]]], [[[0, 1]], [[IGNORE, IGNORE]]], classes=2)
    assert perfect_and_void == {"iou": 1.0, "dice": 1.0}
    assert _scores([[[0, 1]]], [[[IGNORE, IGNORE]]], classes=2) == {"iou": None, "dice": None}


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_ignore_equals_the_papers_call_on_fully_defined_patches(seed):
    """K + 1 classes without background is then the paper's K classes with background, batch by batch."""
    generator = torch.Generator().manual_seed(seed)
    ours = PaperMetrics(classes=4, undefined="ignore")
    iou = MeanIoU(num_classes=4, include_background=True, input_format="index")
    dice = DiceScore(num_classes=4, include_background=True, average="macro", input_format="index")
    for batch in (3, 1, 2):
        predictions, masks = torch.randint(0, 4, (2, batch, 5, 5), generator=generator)
        for metric in (ours, iou, dice):
            metric.update(predictions, masks)
    assert ours.compute() == {"iou": float(iou.compute()), "dice": float(dice.compute())}


def test_scores_do_not_depend_on_the_batch_size():
    """Patches count alike however they are batched."""
    generator = torch.Generator().manual_seed(1)
    predictions, masks = torch.randint(0, 3, (2, 6, 4, 4), generator=generator)
    whole, single = (PaperMetrics(classes=3, undefined="ignore") for _ in range(2))
    whole.update(predictions, masks)
    for i in range(6):
        single.update(predictions[i : i + 1], masks[i : i + 1])
    assert single.compute() == pytest.approx(whole.compute())


def test_reset_forgets_and_an_empty_metric_has_no_score():
    """After a reset only new patches count; before any patch both scores are n/a."""
    metrics = PaperMetrics(classes=2, undefined="ignore")
    assert metrics.compute() == {"iou": None, "dice": None}
    metrics.update(torch.tensor([[[0, 1]]]), torch.tensor([[[1, 0]]]))
    metrics.reset()
    metrics.update(torch.tensor([[[0, 1]]]), torch.tensor([[[0, 1]]]))
    assert metrics.compute() == {"iou": 1.0, "dice": 1.0}


@st.composite
def _batches(draw):
    """Batches of patches with few of the classes each, and undefined pixels: some, none, or all of a patch."""
    classes = draw(st.sampled_from([1, 2, 3, 7, 15, 16, 40]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    batches = []
    for patches in draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)):
        low, high = sorted(draw(st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1))))
        predictions, masks = torch.randint(low, high + 1, (2, patches, 6, 5), generator=generator)
        share = draw(st.sampled_from([0.0, 0.3, 1.0]))
        batches.append((predictions, masks.masked_fill(torch.rand(masks.shape, generator=generator) < share, IGNORE)))
    return classes, batches


@pytest.mark.parametrize("undefined", ["ignore", "as_paper"])
@given(case=_batches())
@settings(max_examples=100, deadline=None)
def test_counts_equal_torchmetrics(undefined, case):
    """Absent classes, undefined pixels and whole undefined patches, several batches: the same to 1e-6, n/a alike."""
    classes, batches = case
    metrics, counts = (
        PaperMetrics(classes=classes, undefined=undefined),
        PaperCounts(classes=classes, undefined=undefined),
    )
    for predictions, masks in batches:
        metrics.update(predictions, masks)
        counts.update(predictions.to(torch.uint8), masks)
    expected, found = metrics.compute(), counts.compute()
    assert found == pytest.approx(expected, abs=1e-6)


@given(case=_batches())
@settings(max_examples=50, deadline=None)
def test_both_ways_to_count_agree(case):
    """Codes (on CPUs) and comparisons (elsewhere) give the same integers."""
    classes, batches = case
    for predictions, masks in batches:
        ours, theirs = (count(predictions, masks, classes) for count in (_counted_by_code, _counted_by_comparison))
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_counts_of_nothing_have_no_score():
    """Before the first batch: n/a, as by torchmetrics."""
    assert PaperCounts(classes=2, undefined="ignore").compute() == {"iou": None, "dice": None}


def test_counting_asks_the_device_for_nothing():
    """On the meta device a tensor has no values, so whatever would read one raises."""
    counts = PaperCounts(classes=3, undefined="as_paper")
    predictions, masks = (torch.zeros(2, 4, 4, dtype=kind, device="meta") for kind in (torch.uint8, torch.int64))
    counts.update(predictions, masks)
    with pytest.raises(NotImplementedError):
        counts.compute()
