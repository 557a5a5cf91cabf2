"""The paper's four moves as one matrix and one warp: rotation, shift with scale, and two flips.

The moves and the chances are those of albumentations 2.0.8 (`Rotate`, `ShiftScaleRotate`, `HorizontalFlip`,
`VerticalFlip`, each p = .5), in that order. Where rotation and shift come together (1 sample in 4) one warp differs
from two: pixels are interpolated once, so they are a little sharper; and what comes in from beyond the edge is
mirrored at the patch's own edges, not at those of the rotated picture, whose corners were mirrored before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Target = NDArray[np.uint8]  # (H, W)

ROTATE_DEG = 45.0
SHIFT = 0.5  # of the side
SCALE = 0.15


@dataclass(frozen=True, slots=True)
class Moves:
    """What happens to one sample, in this order; None: this move does not."""

    angle_deg: float | None = None  # counter-clockwise, about the centre
    shift_px: tuple[int, int] | None = None  # right, down; together with `scale`
    scale: tuple[float, float] = (1.0, 1.0)  # of width and height, about the centre
    left_right: bool = False
    upside_down: bool = False

    def matrix(self, height_px: int, width_px: int) -> NDArray[np.float64]:
        """2x3, source to destination, (x, y) of pixel centres."""
        across, down = (width_px - 1) / 2, (height_px - 1) / 2
        angle = math.radians(self.angle_deg or 0.0)
        right, below = self.shift_px or (0, 0)
        mirror_x, mirror_y = -1.0 if self.left_right else 1.0, -1.0 if self.upside_down else 1.0
        of_x, of_y = mirror_x * self.scale[0], mirror_y * self.scale[1]
        a, b = of_x * math.cos(angle), of_x * math.sin(angle)
        c, d = -of_y * math.sin(angle), of_y * math.cos(angle)
        to_x = across + mirror_x * right - a * across - b * down
        to_y = down + mirror_y * below - c * across - d * down
        return np.array([[a, b, to_x], [c, d, to_y]])


class Draws:
    """The moves of sample `index` in an epoch.

    One generator per (seed, epoch), set forward to a sample's own 16 numbers: 2 us, where a new generator takes 10.
    """

    _NUMBERS = 16  # set aside for each sample; 9 are used

    def __init__(self, seed: int, epoch: int) -> None:
        # A spawn key: without one this would be the stream that shuffles the epoch.
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, epoch], spawn_key=(1,)))
        self._start = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def moves(self, index: int, height_px: int, width_px: int) -> Moves:
        """The same for the same index, whatever was drawn before."""
        self._bits.state = self._start
        self._bits.advance(index * self._NUMBERS)
        rotate, angle, shift, right, below, wide, high, mirror, over = self._generator.random(9).tolist()
        shifts = shift < 0.5
        return Moves(
            angle_deg=_between(angle, ROTATE_DEG) if rotate < 0.5 else None,
            # Towards zero, as albumentations does: 0 px is twice as likely as any other shift.
            shift_px=(int(_between(right, SHIFT) * width_px), int(_between(below, SHIFT) * height_px))
            if shifts
            else None,
            scale=(1 + _between(wide, SCALE), 1 + _between(high, SCALE)) if shifts else (1.0, 1.0),
            left_right=mirror < 0.5,
            upside_down=over < 0.5,
        )


def moved(image_HWC: Image, target_HW: Target, moves: Moves) -> tuple[Image, Target]:
    """Both after these moves, reflected at the border; without rotation and shift nothing is interpolated."""
    if moves.angle_deg is None and moves.shift_px is None:
        return _flipped(image_HWC, moves), _flipped(target_HW, moves)
    height, width = target_HW.shape
    matrix = moves.matrix(height, width)
    target = cv2.warpAffine(
        target_HW, matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT
    )  # fmt: skip
    return warped_image(image_HWC, matrix), np.asarray(target, np.uint8)


def warped_image(image_HWC: Image, matrix: NDArray[np.float64]) -> Image:
    """Through one 2x3 matrix (source to destination, x, y), linearly, reflected at the border."""
    height, width = image_HWC.shape[:2]
    # OpenCV 5 warps four channels to the same bits in half the time of three: 186 us against 367 at 256 px.
    four = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2RGBA)
    four = cv2.warpAffine(four, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(cv2.cvtColor(four, cv2.COLOR_RGBA2RGB), np.uint8)


def _between(number: float, limit: float) -> float:
    """From [0, 1) to [-limit, limit)."""
    return (2 * number - 1) * limit


def _flipped(pixels: NDArray[np.uint8], moves: Moves) -> NDArray[np.uint8]:
    """A copy, or the flipped pixels."""
    if moves.left_right and moves.upside_down:
        return np.asarray(cv2.flip(pixels, -1), np.uint8)
    if moves.left_right or moves.upside_down:
        return np.asarray(cv2.flip(pixels, 1 if moves.left_right else 0), np.uint8)
    return pixels.copy()
