"""Image and target move together, and a key decides how."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from harness.config.labels import IGNORE
from harness.data.augment import build_augment, warped
from harness.errors import BadInput

POLICIES = ("paper", "paper_one_warp", "none", "histology")
# Cells of 16 px, each with a label of its own, which its grey tells: the higher, the brighter. No two are alike, so
# that a target moved elsewhere, or turned another way than the image, cannot agree by chance.
LABELS = (np.indices((64, 64)) // 16 * np.array([4, 1]).reshape(2, 1, 1)).sum(axis=0).astype(np.uint8) + 1
CODED = np.asarray((50 + 9 * LABELS)[..., None].repeat(3, 2), np.uint8)
# No symmetry, so that every flip and turn shows.
RAMP = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)


def _inside_cells(target: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels with one label in the 11 x 11 around: what interpolation (2 px) and blur (4 px) cannot have mixed."""
    square = np.ones((11, 11), np.uint8)
    beyond = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 254}  # no label: what lies there is not known
    same = cv2.erode(target, square) == cv2.dilate(target, square, **beyond)
    return np.asarray(same & (target != IGNORE), np.bool_)


@pytest.mark.parametrize("policy", POLICIES)
def test_image_and_target_move_together(policy: str) -> None:
    """Inside a cell every pixel has its cell's grey, and a higher label a brighter one, whatever seed, epoch, index.

    Stain and colour change greys, but for all pixels alike and never their order.
    """
    augment = build_augment(policy, undefined_target=IGNORE)
    moved = compared = 0
    for key in [(seed, epoch, index) for seed in (0, 2**40) for epoch in (0, 7) for index in range(100)]:
        image, target = augment(CODED, LABELS, seed=key[0], epoch=key[1], index=key[2])
        inside = _inside_cells(target)
        labels = np.unique(target[inside])
        greys = [image[inside & (target == label), 0].astype(int) for label in labels]
        assert all(np.ptp(grey) <= 2 for grey in greys), key
        assert (np.diff([grey.mean() for grey in greys]) > 4).all(), key
        moved += not np.array_equal(target, LABELS)
        compared += len(labels)
    assert compared > 400 * 6
    assert moved == 0 if policy == "none" else moved > 300


@pytest.mark.parametrize("policy", POLICIES)
def test_a_key_gives_one_result_in_any_order_and_from_any_instance(policy: str) -> None:
    """Also when other patches were augmented in between."""
    keys = [(seed, epoch, index) for seed in (0, 2**62) for epoch in (1, 2) for index in range(5)]
    first = build_augment(policy, undefined_target=IGNORE)
    forwards = [first(RAMP, LABELS, seed=s, epoch=e, index=i) for s, e, i in keys]
    second = build_augment(policy, undefined_target=IGNORE)
    backwards = [second(RAMP, LABELS, seed=s, epoch=e, index=i) for s, e, i in reversed(keys)]
    for (image, target), (other_image, other_target) in zip(forwards, reversed(backwards), strict=True):
        assert np.array_equal(image, other_image)
        assert np.array_equal(target, other_target)


@pytest.mark.parametrize("policy", ["paper", "paper_one_warp", "histology"])
def test_seed_epoch_and_index_each_change_the_result(policy: str) -> None:
    """Of 20 keys that differ in one part only, nearly all give another picture."""
    augment = build_augment(policy, undefined_target=IGNORE)
    for part in ("seed", "epoch", "index"):
        keys = [{"seed": 5, "epoch": 5, "index": 5, part: value} for value in range(20)]
        pictures = {augment(RAMP, LABELS, **key)[0].tobytes() for key in keys}
        assert len(pictures) > 12


def test_another_process_gives_the_same_result() -> None:
    """Workers are started and restarted at any time, and meet the patches in another order."""
    code = (
        "import hashlib, numpy as np; from harness.data.augment import build_augment\n"
        "ramp = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)\n"
        "for policy in ('paper', 'paper_one_warp', 'histology'):\n"
        "    augment = build_augment(policy, undefined_target=255)\n"
        "    for index in (9, 5):\n"
        "        image, target = augment(ramp, ramp[..., 0], seed=3, epoch=4, index=index)\n"
        "        print(policy, index, hashlib.sha256(image.tobytes() + target.tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")
    here = {}
    for policy in ("histology", "paper_one_warp", "paper"):
        augment = build_augment(policy, undefined_target=IGNORE)
        for index in (5, 6, 9):
            image, target = augment(RAMP, RAMP[..., 0], seed=3, epoch=4, index=index)
            here[policy, index] = hashlib.sha256(image.tobytes() + target.tobytes()).hexdigest()
    expected = [
        f"{policy} {index} {here[policy, index]}" for policy in POLICIES if policy != "none" for index in (9, 5)
    ]
    assert other == [*expected, ""]


@pytest.mark.parametrize("policy", ["paper", "paper_one_warp"])
def test_the_papers_four_moves_are_independent(policy: str) -> None:
    """p = .5 each: nothing happens to 1 in 16, only the left-right flip to 1 in 16.

    Seeding a Compose gives all four the same number, so that nothing would happen to every second patch.
    """
    augment = build_augment(policy, undefined_target=IGNORE)
    images = [augment(RAMP, LABELS, seed=0, epoch=0, index=index)[0] for index in range(1600)]
    for untouched in (RAMP, RAMP[:, ::-1], RAMP[::-1]):
        share = np.mean([np.array_equal(image, untouched) for image in images])
        assert share == pytest.approx(1 / 16, abs=0.025)  # four standard deviations


@pytest.mark.parametrize("policy", ["paper", "paper_one_warp"])
def test_paper_reflects_the_target_so_that_none_is_undefined(policy: str) -> None:
    """The paper's way: every invented pixel has a label."""
    augment = build_augment(policy, undefined_target=IGNORE)
    for index in range(200):
        _, target = augment(RAMP, LABELS, seed=0, epoch=0, index=index)
        assert set(np.unique(target)) <= set(np.unique(LABELS))


@pytest.mark.parametrize("undefined", [IGNORE, 0])
def test_histology_never_labels_a_pixel_that_it_invents(undefined: int) -> None:
    """On one class everywhere the target is that class or undefined; mild moves invent less than a third."""
    augment = build_augment("histology", undefined_target=undefined)
    target = np.full((64, 64), 4, np.uint8)
    shares = []
    for index in range(200):
        moved = augment(RAMP, target, seed=0, epoch=0, index=index)[1]
        assert set(np.unique(moved)) <= {4, undefined}
        shares.append((moved == undefined).mean())
    assert 0 < max(shares) < 1 / 3
    assert np.mean(np.array(shares) == 0) > 0.4  # every second patch is not warped at all


def test_a_warp_to_the_right_reflects_the_image_and_leaves_the_target_undefined() -> None:
    """Four columns come in from the left: 3, 2, 1, 0 by reflection."""
    image = np.arange(16, dtype=np.uint8)[None, :, None].repeat(16, 0).repeat(3, 2)
    matrix = np.array([[1.0, 0, 4], [0, 1, 0]])
    moved, target = warped(image, np.full((16, 16), 2, np.uint8), matrix, undefined_target=IGNORE)
    assert moved[0, :, 0].tolist() == [3, 2, 1, 0, *range(12)]
    assert target[0].tolist() == [IGNORE] * 4 + [2] * 12


def test_stain_and_colour_are_the_same_for_every_pixel() -> None:
    """A patch of one colour stays of one colour, another one each time, and near the first."""
    augment = build_augment("histology", undefined_target=IGNORE)
    pink = np.full((32, 32, 3), (225, 150, 190), np.uint8)
    means = []
    for index in range(100):
        image, _ = augment(pink, np.ones((32, 32), np.uint8), seed=0, epoch=0, index=index)
        assert np.ptp(image, axis=(0, 1)).max() == 0
        means.append(image[0, 0].astype(int))
    assert len({tuple(mean) for mean in means}) > 80
    assert np.abs(np.array(means) - (225, 150, 190)).max() < 60


def test_patches_that_are_not_square_keep_their_shape() -> None:
    """Quarter turns are for squares only."""
    augment = build_augment("histology", undefined_target=IGNORE)
    for index in range(20):
        image, target = augment(RAMP[:32], LABELS[:32], seed=0, epoch=0, index=index)
        assert (image.shape, target.shape) == ((32, 64, 3), (32, 64))


def test_none_changes_nothing() -> None:
    """The same values, whatever the key."""
    image, target = build_augment("none", undefined_target=IGNORE)(RAMP, LABELS, seed=1, epoch=2, index=3)
    assert np.array_equal(image, RAMP)
    assert np.array_equal(target, LABELS)


def test_an_unknown_policy_is_refused_with_the_nearest_name() -> None:
    """And with all that there are."""
    with pytest.raises(
        BadInput,
        match=r"'papper' is not a policy; did you mean 'paper'\? Choose from histology, none, paper, paper_one_warp",
    ):
        build_augment("papper", undefined_target=IGNORE)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_patch_of_64_px_is_augmented_in_less_than_a_millisecond(policy: str) -> None:
    """One core trains some 20 to 50 such patches a second; augmentation must not show. Measured: .2 ms."""
    augment = build_augment(policy, undefined_target=IGNORE)
    augment(RAMP, LABELS, seed=0, epoch=0, index=0)
    start = time.process_time()
    for index in range(300):
        augment(RAMP, LABELS, seed=0, epoch=0, index=index)
    assert (time.process_time() - start) / 300 < 1e-3
