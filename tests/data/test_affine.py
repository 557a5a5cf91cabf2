"""One warp for the paper's four moves: albumentations' pixels, and albumentations' draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import albumentations
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from harness.data.affine import ROTATE_DEG, SCALE, SHIFT, Draws, Image, Moves, Target, moved, warped_image
from harness.data.augment import _paper_compose
from tests.data.conftest import tissue

HEIGHT, WIDTH = 48, 64
IMAGE = tissue(HEIGHT, WIDTH, seed=3)
TARGET = np.random.default_rng(4).integers(0, 8, (HEIGHT, WIDTH), dtype=np.uint8)
REFLECT = {"border_mode": cv2.BORDER_REFLECT, "p": 1.0}
FLIPS = [(left_right, upside_down) for left_right in (False, True) for upside_down in (False, True)]
ANGLES, SHIFTS, SCALES = st.floats(-45, 45), st.floats(-0.499, 0.499), st.floats(0.85, 1.15)


def _theirs(*moves: Callable[..., Any]) -> tuple[Image, Target]:
    both = albumentations.Compose(list(moves))(image=IMAGE, mask=TARGET)
    return both["image"], both["mask"]


def _same(ours: tuple[Image, Target], theirs: tuple[Image, Target]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one, other)


@settings(deadline=None, max_examples=60)
@given(ANGLES)
def test_a_rotation_alone_is_albumentations_rotate(angle: float) -> None:
    """Pixel for pixel, image and target."""
    theirs = _theirs(albumentations.Rotate(limit=(angle, angle), **REFLECT))
    _same(moved(IMAGE, TARGET, Moves(angle_deg=angle)), theirs)


@settings(deadline=None, max_examples=60)
@given(SHIFTS, SHIFTS, SCALES, SCALES)
def test_shift_and_scale_alone_are_albumentations(right: float, below: float, wide: float, high: float) -> None:
    """Pixel for pixel; `Affine` is what `ShiftScaleRotate` is made of, and takes a scale for either side."""
    affine = albumentations.Affine(
        translate_percent={"x": (right, right), "y": (below, below)},
        scale={"x": (wide, wide), "y": (high, high)}, rotate=(0, 0), shear=(0, 0), **REFLECT,
    )  # fmt: skip
    ours = Moves(shift_px=(int(right * WIDTH), int(below * HEIGHT)), scale=(wide, high))
    _same(moved(IMAGE, TARGET, ours), _theirs(affine))


@pytest.mark.parametrize(("left_right", "upside_down"), FLIPS)
def test_flips_alone_move_pixels_and_change_none(left_right: bool, upside_down: bool) -> None:
    """Neither writes into the patch that it was given: that may be the store's."""
    theirs = _theirs(albumentations.HorizontalFlip(p=float(left_right)), albumentations.VerticalFlip(p=upside_down))
    ours = moved(IMAGE, TARGET, Moves(left_right=left_right, upside_down=upside_down))
    _same(ours, theirs)
    assert not np.shares_memory(ours[0], IMAGE)


@settings(deadline=None, max_examples=60)
@given(ANGLES, st.sampled_from(FLIPS))
def test_a_flip_in_the_matrix_is_a_flip_of_the_warped_patch(angle: float, flips: tuple[bool, bool]) -> None:
    """One level of grey is rounding; a target may differ where two are equally near, at 45 degrees 1 % of them."""
    image, target = moved(IMAGE, TARGET, Moves(angle_deg=angle, left_right=flips[0], upside_down=flips[1]))
    flip = np.s_[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1]
    plain_image, plain_target = moved(IMAGE, TARGET, Moves(angle_deg=angle))
    assert np.abs(image.astype(int) - plain_image[flip]).max() <= 1
    assert (target == plain_target[flip]).mean() > 0.95


@given(ANGLES, SHIFTS, SHIFTS, SCALES, SCALES, st.sampled_from(FLIPS))
def test_the_matrix_is_the_product_of_the_moves_in_order(
    angle: float, right: float, below: float, wide: float, high: float, flips: tuple[bool, bool]
) -> None:
    """Rotation, then scale and shift about the same centre, then the flips."""

    def homogeneous(**move: Any) -> NDArray[np.float64]:
        return np.vstack([Moves(**move).matrix(HEIGHT, WIDTH), [0, 0, 1]])

    shift = {"shift_px": (int(right * WIDTH), int(below * HEIGHT)), "scale": (wide, high)}
    flip = {"left_right": flips[0], "upside_down": flips[1]}
    product = homogeneous(**flip) @ homogeneous(**shift) @ homogeneous(angle_deg=angle)
    assert np.allclose(homogeneous(angle_deg=angle, **shift, **flip), product, atol=1e-9)


def test_rotated_and_shifted_patches_differ_from_two_warps_only_where_those_mirror_or_blur() -> None:
    """Inside, where neither warp saw beyond an edge, smooth tissue is the same within 3 % of its range."""
    both, differences, mirrored = Moves(angle_deg=20.0, shift_px=(5, -3), scale=(1.1, 0.95)), [], []
    for seed in range(20):
        image = cv2.GaussianBlur(tissue(HEIGHT, WIDTH, seed=seed), (0, 0), 2)
        once = moved(image, TARGET, both)[0].astype(int)
        turned = warped_image(image, Moves(angle_deg=20.0).matrix(HEIGHT, WIDTH))
        twice = warped_image(turned, Moves(shift_px=(5, -3), scale=(1.1, 0.95)).matrix(HEIGHT, WIDTH))
        difference = np.abs(once - twice).max(axis=2)
        differences.append(difference[14:-14, 18:-18].max())
        mirrored.append(difference.max())
    assert max(differences) <= 8
    assert min(mirrored) > 8


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    st.floats(-180, 180), st.floats(0.5, 2), st.floats(-30, 30),
)  # fmt: skip
def test_a_warp_over_four_channels_has_the_bits_of_one_over_three(
    image: Image, angle: float, scale: float, shift: float
) -> None:
    """Which is why it may be used: it takes half the time."""
    height, width = image.shape[:2]
    matrix = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale))
    matrix[0, 2] += shift
    plain = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    assert np.array_equal(warped_image(image, matrix), plain.reshape(image.shape))


@pytest.fixture(scope="module")
def drawn_by_albumentations() -> list[dict[str, Any]]:
    """What 4,000 patches went through in the policy `paper`; parameters that were not drawn are missing."""
    compose, numbers, *_ = _paper_compose(cv2.BORDER_REFLECT)
    numbers.seed(11)
    tiny = {"image": np.zeros((HEIGHT, WIDTH, 3), np.uint8), "mask": np.zeros((HEIGHT, WIDTH), np.uint8)}
    return [dict(_parameters(compose, tiny)) for _ in range(4000)]


def _parameters(compose: Any, tiny: dict[str, Any]) -> Iterator[tuple[str, float]]:
    compose(**tiny)
    rotate, shift, mirror, over = compose.transforms
    yield from (("left_right", bool(mirror.params)), ("upside_down", bool(over.params)))
    if rotate.params:
        yield "angle_deg", np.degrees(np.arctan2(rotate.params["matrix"][0, 1], rotate.params["matrix"][0, 0]))
    if shift.params:
        matrix, scale = shift.params["matrix"], shift.params["scale"]
        yield from (("scale_x", scale["x"]), ("scale_y", scale["y"]))
        # Matrix = centre + shift + scale * (x - centre), so at the centre it is the shift.
        yield "right_px", matrix[0] @ [(WIDTH - 1) / 2, 0, 1] - (WIDTH - 1) / 2
        yield "below_px", matrix[1] @ [0, (HEIGHT - 1) / 2, 1] - (HEIGHT - 1) / 2


@pytest.fixture(scope="module")
def drawn_by_us() -> list[dict[str, Any]]:
    """The same for 4,000 keys."""
    found = []
    draws = Draws(seed=5, epoch=1)
    for index in range(4000):
        moves = draws.moves(index, HEIGHT, WIDTH)
        one: dict[str, Any] = {"left_right": moves.left_right, "upside_down": moves.upside_down}
        if moves.angle_deg is not None:
            one["angle_deg"] = moves.angle_deg
        if moves.shift_px is not None:
            one |= {"right_px": moves.shift_px[0], "below_px": moves.shift_px[1]}
            one |= {"scale_x": moves.scale[0], "scale_y": moves.scale[1]}
        found.append(one)
    return found


@pytest.mark.parametrize("name", ["angle_deg", "right_px", "below_px", "scale_x", "scale_y"])
def test_each_parameter_has_albumentations_distribution(
    name: str, drawn_by_us: list[dict[str, Any]], drawn_by_albumentations: list[dict[str, Any]]
) -> None:
    """Two samples of about 2,000: Kolmogorov and Smirnov see no difference at 1 %, nor do the limits."""
    ours, theirs = ([one[name] for one in some if name in one] for some in (drawn_by_us, drawn_by_albumentations))
    assert stats.ks_2samp(ours, np.round(theirs, 9)).pvalue > 0.01
    limit = {"angle_deg": ROTATE_DEG, "right_px": SHIFT * WIDTH, "below_px": SHIFT * HEIGHT}.get(name, SCALE)
    for some in (ours, theirs):
        spread = np.abs(np.array(some) - (1 if name.startswith("scale") else 0)).max()
        assert 0.95 * limit < spread <= limit


def test_moves_come_as_often_and_as_independently_as_albumentations(
    drawn_by_us: list[dict[str, Any]], drawn_by_albumentations: list[dict[str, Any]]
) -> None:
    """Each of the 16 combinations of four moves in 1 of 16 patches: chi-squared at 1 %, theirs and ours."""
    for some in (drawn_by_us, drawn_by_albumentations):
        kinds = [
            8 * ("angle_deg" in one) + 4 * ("scale_x" in one) + 2 * one["left_right"] + one["upside_down"]
            for one in some
        ]
        assert stats.chisquare(np.bincount(kinds, minlength=16)).pvalue > 0.01


def test_parameters_of_one_patch_do_not_depend_on_each_other(
    drawn_by_us: list[dict[str, Any]], drawn_by_albumentations: list[dict[str, Any]]
) -> None:
    """Not even the two scales: albumentations stretches width and height apart. Ten pairs at .1 % each."""
    names = ("angle_deg", "right_px", "below_px", "scale_x", "scale_y")
    for some in (drawn_by_us, drawn_by_albumentations):
        table = np.array([[one[name] for name in names] for one in some if set(names) <= set(one)])
        assert len(table) > 800
        correlation = np.corrcoef(table.T)[np.triu_indices(len(names), 1)]
        assert np.abs(correlation).max() < 3.3 / len(table) ** 0.5


def test_nothing_is_twice_as_likely_a_shift_as_any_other(drawn_by_us: list[dict[str, Any]]) -> None:
    """Albumentations cuts fractions of a pixel off: -.9 and .9 are both 0. A side of 64 px has 63 other shifts."""
    shifts = [one["right_px"] for one in drawn_by_us if "right_px" in one]
    assert np.mean(np.array(shifts) == 0) == pytest.approx(2 / 64, abs=4 * (2 / 64 / len(shifts)) ** 0.5)


def test_neighbouring_samples_epochs_and_seeds_share_no_numbers() -> None:
    """Of 4,000 samples no two turn by the same angle."""
    angles = [
        Draws(seed, epoch).moves(index, HEIGHT, WIDTH).angle_deg
        for seed in (0, 1, 2**62)
        for epoch in (1, 2)
        for index in (*range(700), 2**40)
    ]
    turned = [angle for angle in angles if angle is not None]
    assert len(set(turned)) == len(turned) > 1900
