"""The cutting rule, on paper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.spec import Cut
from harness.data.cutting import Grid, cut_pixels, grid_of, positions, resized_mask, starts
from harness.data.patches import validation_cut


def cut_of(patch_px: int, stride: int, remainder: str = "shift", **more: object) -> Cut:
    """A cut whose patches are not resized."""
    return Cut.model_validate(
        {"patch_px": patch_px, "input_px": patch_px, "stride": stride, "remainder": remainder, **more}
    )


@pytest.mark.parametrize(
    ("length", "patch", "stride", "remainder", "expected"),
    [
        (64, 16, 16, "shift", [0, 16, 32, 48]),
        (70, 16, 16, "shift", [0, 16, 32, 48, 54]),
        (70, 16, 16, "drop", [0, 16, 32, 48]),
        (70, 16, 16, "pad", [0, 16, 32, 48, 64]),
        (16, 16, 8, "shift", [0]),
        (40, 16, 8, "pad", [0, 8, 16, 24]),
        (41, 16, 8, "pad", [0, 8, 16, 24, 32]),
        (41, 16, 8, "shift", [0, 8, 16, 24, 25]),
        (40, 16, 32, "pad", [0, 32]),
        (20, 16, 32, "pad", [0]),
    ],
)
def test_patches_start_where_the_rule_says(
    length: int, patch: int, stride: int, remainder: str, expected: list[int]
) -> None:
    """Counted by hand."""
    assert starts(length, cut_of(patch, stride, remainder)) == expected


@settings(deadline=None)
@given(st.integers(16, 300), st.integers(16, 64), st.integers(8, 200), st.sampled_from(["shift", "drop", "pad"]))
def test_validation_covers_every_pixel_and_never_reaches_beyond(
    length: int, patch: int, stride: int, remainder: str
) -> None:
    """So every patch size sees the same pixels."""
    cut = validation_cut(cut_of(patch, stride, remainder))
    length = max(length, patch)
    seen = np.zeros(length, int)
    for start in starts(length, cut):
        assert 0 <= start <= length - patch
        seen[start : start + patch] += 1
    assert seen.min() >= 1


@pytest.mark.parametrize(
    ("size", "mpp", "patch", "expected"),
    [
        ((300, 400), None, 256, Grid(300, 400, False)),
        ((130, 165), None, 256, Grid(256, 256, True)),
        ((130, 400), None, 256, Grid(256, 400, True)),
        ((1000, 800), 1.0, 256, Grid(500, 400, False)),
        ((300, 800), 1.0, 256, Grid(256, 400, True)),
        ((300, 400), 0.25, 256, Grid(600, 800, False)),
        ((300, 400), 0.5025, 256, Grid(300, 400, False)),
    ],
)
def test_grid_is_resampled_then_enlarged_to_a_patch(
    size: tuple[int, int], mpp: float | None, patch: int, expected: Grid
) -> None:
    """ROIs at .5 um/px; half a percent of difference is no other resolution."""
    assert grid_of(*size, 0.5, cut_of(patch, patch, mpp=mpp)) == expected


def test_patches_are_the_pixels_at_their_places() -> None:
    """Image and mask from the same window."""
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    mask = np.random.default_rng(1).integers(0, 8, (40, 50), dtype=np.uint8)
    cut = cut_of(16, 16)
    cut_out = list(cut_pixels(image, mask, Grid(40, 50, False), cut))
    assert [(y, x) for y, x, _, _ in cut_out] == [(y, x) for y in (0, 16, 24) for x in (0, 16, 32, 34)]
    for y, x, patch_image, patch_mask in cut_out:
        assert np.array_equal(patch_image, image[y : y + 16, x : x + 16])
        assert np.array_equal(patch_mask, mask[y : y + 16, x : x + 16])


def test_pixels_that_padding_invents_are_undefined() -> None:
    """The image reflects, so that the network sees tissue; its labels were never drawn."""
    image = np.arange(20, dtype=np.uint8)[None, :, None].repeat(16, 0).repeat(3, 2)
    mask = np.full((16, 20), 3, np.uint8)
    _, _, patch_image, patch_mask = list(cut_pixels(image, mask, Grid(16, 20, False), cut_of(16, 16, "pad")))[1]
    assert patch_mask[0].tolist() == [3] * 4 + [0] * 12
    assert patch_image[0, :8, 0].tolist() == [16, 17, 18, 19, 19, 18, 17, 16]


def test_enlarging_a_mask_repeats_ids_and_shrinking_keeps_only_ids_that_were_there() -> None:
    """No id is ever interpolated."""
    mask = np.array([[1, 7], [3, 0]], np.uint8)
    assert np.array_equal(resized_mask(mask, 4, 6), mask.repeat(2, 0).repeat(3, 1))
    ids = np.random.default_rng(0).choice(np.array([1, 7], np.uint8), (64, 64))
    assert set(np.unique(resized_mask(ids, 23, 41))) <= {1, 7}


def test_image_and_mask_stay_aligned_when_resampled() -> None:
    """A bright half labelled 2: halved or enlarged, the edge lies at the same place in both."""
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, 32:] = 255
    mask = np.where(image[..., 0] > 127, 2, 1).astype(np.uint8)
    for grid in (Grid(16, 32, False), Grid(96, 192, False)):
        cut = cut_of(16, 16)
        for _, _, patch_image, patch_mask in cut_pixels(image, mask, grid, cut):
            assert np.array_equal(patch_image[..., 0] > 127, patch_mask == 2)


@settings(deadline=None)
@given(st.integers(16, 200), st.integers(16, 200), st.integers(16, 64), st.integers(8, 64))
def test_positions_are_all_rows_by_all_columns(height: int, width: int, patch: int, stride: int) -> None:
    """Row by row, none twice."""
    cut = cut_of(patch, stride)
    grid = grid_of(height, width, 0.5, cut)
    places = positions(grid, cut)
    assert places == sorted(set(places))
    assert len(places) == len(starts(grid.height_px, cut)) * len(starts(grid.width_px, cut))
