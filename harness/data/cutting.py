"""The cutting rule: from one ROI's pixels to its patches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.config.labels import UNDEFINED
from harness.config.spec import Cut

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Grid:
    """The size at which a ROI is cut: resampled to the cut's mpp, then no side shorter than a patch."""

    height_px: int
    width_px: int
    resized: bool  # a side was shorter than a patch


def grid_of(height_px: int, width_px: int, mpp: float, cut: Cut) -> Grid:
    """The grid of a ROI; a side shorter than the patch is enlarged to it, as the paper did."""
    height, width = _resampled(height_px, width_px, mpp, cut)
    enlarged = (max(height, cut.patch_px), max(width, cut.patch_px))
    return Grid(*enlarged, resized=enlarged != (height, width))


def starts(length_px: int, cut: Cut) -> list[int]:
    """Where patches start along a side of at least `patch_px`; the last may reach beyond it under `pad`."""
    regular = list(range(0, length_px - cut.patch_px + 1, cut.stride))
    if regular[-1] + cut.patch_px >= length_px or cut.remainder == "drop":
        return regular
    if cut.remainder == "shift":
        return [*regular, length_px - cut.patch_px]
    following = regular[-1] + cut.stride
    return [*regular, following] if following < length_px else regular


def positions(grid: Grid, cut: Cut) -> list[tuple[int, int]]:
    """(y, x) of every patch on the grid, row by row."""
    columns = starts(grid.width_px, cut)
    return [(y, x) for y in starts(grid.height_px, cut) for x in columns]


def cut_pixels(image_HWC: Pixels, mask_HW: Pixels, grid: Grid, cut: Cut) -> Iterator[tuple[int, int, Pixels, Pixels]]:
    """Every patch as (y, x, image, mask), `input_px` square; beyond the grid only the image reflects."""
    image = resized_image(image_HWC, grid.height_px, grid.width_px)
    below, right = _overhang(grid, cut)
    if below or right:
        image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT), np.uint8)
    for y, x, mask in cut_mask(mask_HW, grid, cut):
        window = np.s_[y : y + cut.patch_px, x : x + cut.patch_px]
        yield y, x, resized_image(image[window], cut.input_px, cut.input_px), mask


def cut_mask(mask_HW: Pixels, grid: Grid, cut: Cut) -> Iterator[tuple[int, int, Pixels]]:
    """Every patch of the mask alone, as `cut_pixels` gives it; beyond the grid nothing is defined."""
    mask = resized_mask(mask_HW, grid.height_px, grid.width_px)
    below, right = _overhang(grid, cut)
    if below or right:
        mask = np.pad(mask, ((0, below), (0, right)), constant_values=UNDEFINED)
    for y, x in positions(grid, cut):
        window = np.s_[y : y + cut.patch_px, x : x + cut.patch_px]
        yield y, x, resized_mask(mask[window], cut.input_px, cut.input_px)


def resized_image(image_HWC: Pixels, height_px: int, width_px: int) -> Pixels:
    """Each side down by area, up linearly; both are separable, so one after the other is exact."""
    for target in (
        (min(height_px, image_HWC.shape[0]), min(width_px, image_HWC.shape[1])),
        (height_px, width_px),
    ):
        if image_HWC.shape[:2] != target:
            down = target[0] <= image_HWC.shape[0] and target[1] <= image_HWC.shape[1]
            how = cv2.INTER_AREA if down else cv2.INTER_LINEAR
            image_HWC = np.asarray(cv2.resize(image_HWC, target[::-1], interpolation=how), np.uint8)
    return image_HWC


def resized_mask(mask_HW: Pixels, height_px: int, width_px: int) -> Pixels:
    """The nearest source id, exactly: plain INTER_NEAREST is off by up to half a pixel against the image."""
    if mask_HW.shape == (height_px, width_px):
        return mask_HW
    size = (width_px, height_px)
    return np.asarray(cv2.resize(mask_HW, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def _overhang(grid: Grid, cut: Cut) -> tuple[int, int]:
    """Pixels by which the last patches reach below the grid, and to its right."""
    below = starts(grid.height_px, cut)[-1] + cut.patch_px - grid.height_px
    right = starts(grid.width_px, cut)[-1] + cut.patch_px - grid.width_px
    return max(below, 0), max(right, 0)


def _resampled(height_px: int, width_px: int, mpp: float, cut: Cut) -> tuple[int, int]:
    # A difference below 1 % is the rounding of "about .5 um/px", not another resolution.
    if cut.mpp is None or abs(cut.mpp / mpp - 1) < 0.01:
        return height_px, width_px
    scale = mpp / cut.mpp
    return max(round(height_px * scale), 1), max(round(width_px * scale), 1)
