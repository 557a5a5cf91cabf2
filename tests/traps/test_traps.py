"""The arithmetic behind each trap, against answers known by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from harness.checkpoint import Progress
from harness.config.labels import IGNORE
from harness.data.augment import build_augment, paper_policy
from harness.scores import Scheme
from harness.traps.bench import LABELS, Bench, patches_as_regions
from harness.traps.best_of_any_epoch import measure as measure_best
from harness.traps.mirrored_labels import mirrored_pixels
from harness.traps.patch_mean import pooled_scores, tile_means
from harness.traps.patient_split import POOL, VALIDATING, deal
from harness.traps.plateau_and_stop import measure as measure_plateau
from harness.traps.undefined_pixels import gradient, masked_loss, smp_loss


def patients(bench: Bench, indices: np.ndarray) -> set[str]:
    """Whose patches these are."""
    return {bench.patches.rois[roi].patient for roi in bench.patches.index["roi"][indices]}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_both_ways_of_dealing_have_the_same_patches_in_other_roles(bench: Bench, number: int) -> None:
    """Equal sizes, the same pool; patients cross roles only when patches are dealt; the others are nobody's."""
    dealt = deal(bench, number)
    for training, validation in (dealt.by_patch, dealt.by_patient):
        assert not set(training) & set(validation)
        assert len(patients(bench, np.concatenate([training, validation]))) == POOL
    assert [len(role) for role in dealt.by_patch] == [len(role) for role in dealt.by_patient]
    assert set(np.concatenate(dealt.by_patch)) == set(np.concatenate(dealt.by_patient))
    assert not patients(bench, dealt.by_patient[0]) & patients(bench, dealt.by_patient[1])
    assert len(patients(bench, dealt.by_patient[1])) == VALIDATING
    assert patients(bench, dealt.by_patch[0]) & patients(bench, dealt.by_patch[1])
    assert not patients(bench, dealt.others) & patients(bench, np.concatenate(dealt.by_patch))


def test_patches_as_regions_keep_their_patients_and_pixels(bench: Bench) -> None:
    """Each patch becomes one region: same image, its mask as the region's mask, its patient."""
    chosen = np.array([5, 0, len(bench.patches) - 1])
    regions = patches_as_regions(bench.patches, chosen)
    assert [roi.patient for roi in regions.rois] == [
        bench.patches.rois[bench.patches.index["roi"][patch]].patient for patch in chosen
    ]
    for place, patch in enumerate(chosen):
        assert np.array_equal(regions.roi_mask(place), bench.patches.masks_NHW[patch])
        assert np.array_equal(regions.images_NHWC[place], bench.patches.images_NHWC[patch])
    assert len({roi.name for roi in regions.rois}) == len(chosen)


def test_the_mean_over_patches_is_not_the_pooled_score() -> None:
    """A tile all right (IoU 1), one three quarters (IoU 3/4 and 0): mean 7/12 over pairs; pooled (7/8 + 0) / 2."""
    mask_HW = np.ones((256, 512), np.uint8)  # source id 1: tumor
    mask_HW[:128, 384:] = 2  # stroma: a quarter of the second tile
    predicted_HW = np.ones_like(mask_HW)
    regions = [(mask_HW, predicted_HW)]
    assert tile_means(regions, 256)["iou"] == pytest.approx((1 + 3 / 4 + 0) / 3)
    assert tile_means(regions, 128)["iou"] == pytest.approx((7 * 1 + 0 + 0) / 9)  # one of eight tiles is all wrong
    assert pooled_scores(regions, Scheme(tuple(range(8)), LABELS))["iou"] == pytest.approx((7 / 8 + 0) / 2)


def test_each_metric_has_its_own_best_epoch() -> None:
    """IoU is best in epoch 2, Dice in 3, loss in 1; the kept epoch 2 has neither the best Dice nor the best loss."""
    rows = [(0.1, 0.2, 0.5), (0.4, 0.5, 0.7), (0.3, 0.6, 0.6)]
    history = [{f"paper/val/{name}": value for name, value in zip(("iou", "dice", "loss"), row, strict=True)}
               for row in rows]  # fmt: skip
    iou, dice, loss = measure_best(Progress(epoch=3, history=history), best_epoch=2)
    assert (iou.own_epoch, dice.own_epoch, loss.own_epoch) == (2, 3, 1)
    assert [(b.anywhere, b.at_best) for b in (iou, dice, loss)] == [(0.4, 0.4), (0.6, 0.5), (0.5, 0.7)]


@pytest.mark.parametrize(
    ("plateau_patience", "lr_cuts", "epochs_after_cut"), [(10, 0, 0), (12, 0, 0), (9, 1, 0), (8, 1, 1), (5, 1, 4)]
)
def test_the_rate_is_cut_only_if_the_plateau_is_shorter_than_the_stop(
    plateau_patience: int, lr_cuts: int, epochs_after_cut: int
) -> None:
    """A flat score: epoch 1 is the best, the stop comes after epoch 11, the cut after epoch 2 + patience."""
    course = measure_plateau(plateau_patience, (0.5,) * 40)
    assert (len(course.rates), course.lr_cuts, course.epochs_after_cut) == (11, lr_cuts, epochs_after_cut)


def test_only_the_masked_loss_leaves_undefined_pixels_alone() -> None:
    """smp's JaccardLoss(classes=[1..K]) pulls at every undefined pixel; ours at none, and at every defined one."""
    torch.manual_seed(3)
    images_NCHW = np.random.default_rng(3).random((2, 3, 8, 8)).astype(np.float32)
    undefined_NHW = np.zeros((2, 8, 8), bool)
    undefined_NHW[:, :, 5:] = True
    classes_NHW = np.random.default_rng(4).integers(1, 4, (2, 8, 8)).astype(np.uint8)
    as_paper = np.where(undefined_NHW, 0, classes_NHW).astype(np.uint8)
    masked = np.where(undefined_NHW, IGNORE, classes_NHW - 1).astype(np.uint8)
    usual = gradient(nn.Conv2d(3, 4, 1), smp_loss(LABELS), images_NCHW, as_paper, undefined_NHW)
    ours = gradient(nn.Conv2d(3, 3, 1), masked_loss(LABELS), images_NCHW, masked, undefined_NHW)
    assert usual.pulled == undefined_NHW.sum() and usual.share_undefined > 0
    assert ours.pulled == 0 and ours.share_undefined == 0
    assert (ours.pull_NHW[~undefined_NHW] > 0).all()


def test_mirrored_pixels_are_those_that_the_border_decides() -> None:
    """Same draw, two borders: targets agree on every pixel that is not mirrored, and some draws mirror many."""
    rng = np.random.default_rng(0)
    image_HWC = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    target_HW = rng.integers(1, 200, (32, 32)).astype(np.uint8)
    reflect, constant = build_augment("paper", undefined_target=0), paper_policy(cv2.BORDER_CONSTANT)
    shares = []
    for index in range(40):
        mirrored_HW = mirrored_pixels(image_HWC, seed=7, index=index)
        _, reflected = reflect(image_HWC, target_HW, seed=7, epoch=1, index=index)
        _, blank = constant(image_HWC, target_HW, seed=7, epoch=1, index=index)
        assert np.array_equal(blank == 0, mirrored_HW)
        assert np.array_equal(reflected[~mirrored_HW], blank[~mirrored_HW])
        assert (reflected > 0).all()  # every invented pixel has a label
        shares.append(mirrored_HW.mean())
    assert min(shares) == 0 and max(shares) > 0.4
