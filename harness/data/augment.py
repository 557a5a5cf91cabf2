"""Augmentation policies: image and target move together, and (seed, epoch, index) alone decides how.

`paper` is the source report's recipe by albumentations itself; image and mask both reflect at the border, so
it trains on invented labels (a trap that the docs show). `paper_one_warp` draws the same moves and does them in one
warp (`affine.py`). `histology` marks every invented pixel undefined instead.
"""

from __future__ import annotations

import os
import random
import threading
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.config.base import choose_from
from harness.config.imported import ImportedPart, load_part
from harness.data.affine import Draws, Image, Target, moved, warped_image
from harness.errors import BadInput

# Optical density of haematoxylin, eosin and the residual (DAB), one stain a row: Ruifrok and Johnston, 2001.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
_STAINS_INVERSE = np.linalg.inv(_STAINS.astype(np.float64)).astype(np.float32)
_DENSITY_OF = (-np.log((np.arange(256) + 1) / 256)).astype(np.float32)  # a table: pixels have 256 values


class Augment(Protocol):
    """One policy, ready to use."""

    def __call__(
        self, image_HWC: Image, target_HW: Target, *, seed: int, epoch: int, index: int
    ) -> tuple[Image, Target]:
        """The augmented pair, same shapes; equal keys give equal pairs, in any order and any process."""
        ...


def build_augment(policy: str | ImportedPart, *, undefined_target: int) -> Augment:
    """The policy by name; pixels that it invents get `undefined_target` (in `paper` they reflect)."""
    if isinstance(policy, ImportedPart):
        return _imported(policy, undefined_target)
    if policy not in POLICIES:
        raise BadInput(f"train.augment: {policy!r} is not a policy; {choose_from(policy, POLICIES)}")
    return POLICIES[policy](undefined_target)


def _none(undefined_target: int) -> Augment:
    def augment(image_HWC: Image, target_HW: Target, *, seed: int, epoch: int, index: int) -> tuple[Image, Target]:
        return image_HWC, target_HW

    return augment


def _paper(undefined_target: int) -> Augment:
    return paper_policy(cv2.BORDER_REFLECT)


def paper_policy(border_mode: int) -> Augment:
    """The paper's moves with another of OpenCV's borders: under BORDER_CONSTANT, targets beyond the edge are 0."""
    compose, numbers, generator, alone = _paper_compose(border_mode)

    def augment(image_HWC: Image, target_HW: Target, *, seed: int, epoch: int, index: int) -> tuple[Image, Target]:
        words = np.random.SeedSequence([seed, epoch, index]).generate_state(2, np.uint64)
        with alone:
            numbers.seed(int(words[0]))
            generator.bit_generator.state = np.random.PCG64(int(words[1])).state
            both = compose(image=np.ascontiguousarray(image_HWC), mask=target_HW)
        return both["image"], both["mask"]

    return augment


@lru_cache(maxsize=2)
def _paper_compose(border_mode: int) -> tuple[Any, random.Random, np.random.Generator, threading.Lock]:
    """The paper's transforms, the two generators that they all draw from, and a lock on these.

    Shared on purpose: `Compose.set_random_seed` gives every transform a generator of its own with the *same*
    seed, so that all four moves came together or not at all.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it asks the network otherwise
    import albumentations  # here: it takes 3 to 10 s, because it loads torch

    border = {"border_mode": border_mode, "p": 0.5}
    with warnings.catch_warnings():
        # The paper names ShiftScaleRotate, so it stays, although it is a subclass of Affine by now.
        warnings.filterwarnings("ignore", message="ShiftScaleRotate is a special case", category=UserWarning)
        moves = [
            albumentations.Rotate(limit=45, **border),
            albumentations.ShiftScaleRotate(shift_limit=0.5, scale_limit=0.15, rotate_limit=0, **border),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.VerticalFlip(p=0.5),
        ]
        compose = albumentations.Compose(moves)
    numbers, generator = random.Random(0), np.random.default_rng(0)
    compose.set_random_state(generator, numbers)
    return compose, numbers, generator, threading.Lock()


def _paper_one_warp(undefined_target: int) -> Augment:
    draws: dict[tuple[int, int], Draws] = {}  # of the epoch at hand only

    def augment(image_HWC: Image, target_HW: Target, *, seed: int, epoch: int, index: int) -> tuple[Image, Target]:
        if (seed, epoch) not in draws:
            draws.clear()
            draws[seed, epoch] = Draws(seed, epoch)
        return moved(image_HWC, target_HW, draws[seed, epoch].moves(index, *target_HW.shape))

    return augment


def _histology(undefined_target: int) -> Augment:
    def augment(image_HWC: Image, target_HW: Target, *, seed: int, epoch: int, index: int) -> tuple[Image, Target]:
        rng = np.random.default_rng([seed, epoch, index])
        image_HWC, target_HW = _turned(image_HWC, target_HW, rng)
        if rng.random() < 0.5:
            matrix = _mild_affine(image_HWC.shape[0], image_HWC.shape[1], rng)
            image_HWC, target_HW = warped(image_HWC, target_HW, matrix, undefined_target=undefined_target)
        if rng.random() < 0.8:
            image_HWC = _stain_jittered(image_HWC, rng)
        if rng.random() < 0.5:
            image_HWC = _colour_jittered(image_HWC, rng)
        if rng.random() < 0.2:
            blurred = cv2.GaussianBlur(image_HWC, (0, 0), float(rng.uniform(0.3, 1.2)))
            image_HWC = np.asarray(blurred, np.uint8)
        return np.ascontiguousarray(image_HWC), np.ascontiguousarray(target_HW)

    return augment


def _imported(part: ImportedPart, undefined_target: int) -> Augment:
    """A person's own policy: `function(image_HWC, target_HW, rng=..., undefined_target=...)` gives the same shapes."""
    function = load_part(part)

    def augment(image_HWC: Image, target_HW: Target, *, seed: int, epoch: int, index: int) -> tuple[Image, Target]:
        rng = np.random.default_rng([seed, epoch, index])
        # Copies: what a policy writes into must not be the store's own pages.
        moved = function(image_HWC.copy(), target_HW.copy(), rng=rng, undefined_target=undefined_target, **part.options)
        image, target = (np.ascontiguousarray(array) for array in moved)
        if (image.shape, target.shape) != (image_HWC.shape, target_HW.shape) or {image.dtype, target.dtype} != {_UINT8}:
            raise BadInput(
                f"{part.target} gave arrays of {image.dtype} {image.shape} and {target.dtype} {target.shape}; "
                f"expected uint8 {image_HWC.shape} and uint8 {target_HW.shape}"
            )
        return image, target

    return augment


_UINT8 = np.dtype(np.uint8)

POLICIES: dict[str, Callable[[int], Augment]] = {
    "paper": _paper,
    "paper_one_warp": _paper_one_warp,
    "none": _none,
    "histology": _histology,
}


def warped(
    image_HWC: Image, target_HW: Target, matrix: NDArray[np.float64], *, undefined_target: int
) -> tuple[Image, Target]:
    """Both through one 2x3 matrix (source to destination, x, y); only the image reflects."""
    size = (image_HWC.shape[1], image_HWC.shape[0])
    target = cv2.warpAffine(
        target_HW, matrix, size, flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT, borderValue=undefined_target,
    )  # fmt: skip
    return warped_image(image_HWC, matrix), np.asarray(target, np.uint8)


def _turned(image_HWC: Image, target_HW: Target, rng: np.random.Generator) -> tuple[Image, Target]:
    """One of the eight symmetries of a square (of the four of a rectangle)."""
    square = image_HWC.shape[0] == image_HWC.shape[1]
    quarters = int(rng.integers(4)) if square else 2 * int(rng.integers(2))
    image_HWC, target_HW = np.rot90(image_HWC, quarters), np.rot90(target_HW, quarters)
    if rng.random() < 0.5:
        image_HWC, target_HW = image_HWC[:, ::-1], target_HW[:, ::-1]
    return np.ascontiguousarray(image_HWC), np.ascontiguousarray(target_HW)


def _mild_affine(height_px: int, width_px: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Up to 15 degrees, 10 % of scale and 6 % of shift, about the centre."""
    centre = ((width_px - 1) / 2, (height_px - 1) / 2)
    scale = float(np.exp(rng.uniform(np.log(0.9), np.log(1.1))))
    matrix = np.asarray(cv2.getRotationMatrix2D(centre, float(rng.uniform(-15, 15)), scale), np.float64)
    matrix[:, 2] += rng.uniform(-0.06, 0.06, 2) * (width_px, height_px)
    return matrix


def _stain_jittered(image_HWC: Image, rng: np.random.Generator) -> Image:
    """Each stain's optical density times 1 +- .15, plus +- .03 (after Tellez et al., 2018)."""
    amount = rng.uniform(0.85, 1.15, 3).astype(np.float32)
    offset = rng.uniform(-0.03, 0.03, 3).astype(np.float32)
    # Separate, scale, recombine is one 3x3 matrix on optical densities (pixels as rows).
    mixing = _STAINS_INVERSE @ np.diag(amount) @ _STAINS
    density = cv2.transform(cv2.LUT(image_HWC, _DENSITY_OF), np.column_stack([mixing.T, offset @ _STAINS]))
    light = cv2.exp(-density)
    return np.asarray(cv2.addWeighted(light, 256, light, 0, -1, dtype=cv2.CV_8U), np.uint8)  # rounds, saturates


def _colour_jittered(image_HWC: Image, rng: np.random.Generator) -> Image:
    """Brightness, contrast and saturation by up to 10 %, as one saturating colour matrix."""
    brightness, contrast, saturation = rng.uniform(0.9, 1.1, 3)
    luma = np.tile(np.array([0.299, 0.587, 0.114]), (3, 1))
    colour = contrast * brightness * (saturation * np.eye(3) + (1 - saturation) * luma)
    offset = np.full((3, 1), 128 * brightness * (1 - contrast))
    return np.asarray(cv2.transform(image_HWC, np.hstack([colour, offset]).astype(np.float32)), np.uint8)
