"""One grid sample of a batch against OpenCV's warps of its patches."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from harness.config.labels import IGNORE
from harness.data.affine import Draws, Moves, moved
from harness.device_warp import warped_batch


def _batch(moves: list[Moves], height: int, width: int) -> tuple[np.ndarray, ...]:
    """(images, targets) by OpenCV and by one grid sample, back as uint8."""
    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 256, (len(moves), height // 4, width // 4, 3), dtype=np.uint8)
    images = [np.asarray(cv2.resize(one, (width, height)), np.uint8) for one in coarse]
    targets = rng.choice(np.array([0, 1, 2, IGNORE], np.uint8), (len(moves), height, width))
    theirs = [moved(image, target, one) for image, target, one in zip(images, targets, moves, strict=True)]
    ours, our_targets = warped_batch(
        torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2) / np.float32(255)),
        torch.from_numpy(targets.astype(np.int64)),
        np.stack([one.matrix(height, width) for one in moves]),
    )
    assert our_targets.dtype == torch.int64
    greys = (ours * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return np.stack([image for image, _ in theirs]), greys, np.stack([t for _, t in theirs]), our_targets.numpy()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (256, 256)])
def test_a_grid_sample_is_opencvs_warp_within_rounding(height: int, width: int) -> None:
    """The paper's draws; beyond the edges, too. One level of grey, and a target where two pixels are equally near."""
    draws = Draws(seed=1, epoch=1)
    theirs, ours, targets, our_targets = _batch([draws.moves(i, height, width) for i in range(24)], height, width)
    difference = np.abs(theirs.astype(int) - ours)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    assert (targets != our_targets).mean() < 1e-3


def test_flips_are_exact() -> None:
    """Every pixel's centre falls onto another's."""
    flips = [Moves(left_right=a, upside_down=b) for a in (False, True) for b in (False, True)]
    theirs, ours, targets, our_targets = _batch(flips, 32, 48)
    assert np.array_equal(theirs, ours)
    assert np.array_equal(targets, our_targets)
