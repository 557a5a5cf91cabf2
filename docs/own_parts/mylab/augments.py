"""An own augmentation policy: a function on one patch and its target."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def flips(
    image_HWC: Pixels, target_HW: Pixels, *, rng: np.random.Generator, undefined_target: int
) -> tuple[Pixels, Pixels]:
    """Flips, and one corner hidden: grey in the image, undefined in the target."""
    if rng.random() < 0.5:
        image_HWC, target_HW = image_HWC[:, ::-1].copy(), target_HW[:, ::-1].copy()
    side = image_HWC.shape[0] // 4
    image_HWC[:side, :side] = 128
    target_HW[:side, :side] = undefined_target
    return image_HWC, target_HW
