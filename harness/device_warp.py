"""A batch's moves as one grid sample, on whatever device the batch is: what `paper_one_warp` does patch by patch.

Nothing trains by it: on the CPU OpenCV is faster, and no CUDA device was at hand to measure on. There it would
save the host's warp, .2 ms of the .3 ms that a patch of 256 px takes.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def warped_batch(images_NCHW: Tensor, targets_NHW: Tensor, matrices_N23: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Both through one matrix a sample (`Moves.matrix`: source to destination, x, y), reflected at the border.

    Images are float in any scale and interpolated linearly, targets of any integer type take the nearest pixel.
    Equal to OpenCV's warp within one level of 256, in less than one value of 1,000.
    """
    count, _, height, width = images_NCHW.shape
    theta_N23 = torch.from_numpy(_to_source(matrices_N23, height, width)).to(images_NCHW)
    grid_NHW2 = functional.affine_grid(theta_N23, [count, 1, height, width], align_corners=False)
    # Reflection at the outer edges of pixels, which align_corners=False means, is BORDER_REFLECT: cba|abc.
    sample = partial(functional.grid_sample, grid=grid_NHW2, padding_mode="reflection", align_corners=False)
    images = sample(images_NCHW, mode="bilinear")
    targets = sample(targets_NHW[:, None].to(images_NCHW), mode="nearest")
    return images, targets[:, 0].to(targets_NHW.dtype)


def _to_source(matrices_N23: NDArray[np.float64], height_px: int, width_px: int) -> NDArray[np.float64]:
    """Destination to source, with the patch from -1 to 1 from edge to edge, as torch has it."""
    full_N33 = np.zeros((len(matrices_N23), 3, 3))
    full_N33[:, :2], full_N33[:, 2, 2] = matrices_N23, 1.0
    to_px = np.array(
        [[width_px / 2, 0, (width_px - 1) / 2], [0, height_px / 2, (height_px - 1) / 2], [0, 0, 1]], np.float64
    )
    return np.asarray((np.linalg.inv(to_px) @ np.linalg.inv(full_N33) @ to_px)[:, :2])
