"""A batch's moves as one grid sample, on whatever device the batch is: what `paper_one_warp` does patch by patch.

Training on a CUDA device moves its patches by it (`device_patches.py`): it saves the host's warp, .2 ms of the .3 ms
that a patch of 256 px takes there. On the CPU OpenCV is faster.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from harness.evaluate import placed


def warped_batch(images_NCHW: Tensor, targets_NHW: Tensor, matrices_N23: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Both through one matrix a sample (`Moves.matrix`: source to destination, x, y), reflected at the border.

    Images are float in any scale and interpolated linearly, targets of any integer type take the nearest pixel.
    Equal to OpenCV's warp within one level of 256, in less than one value of 1,000.
    """
    height, width = images_NCHW.shape[2:]
    theta_N23 = placed(_to_source(matrices_N23, height, width).astype(np.float32), images_NCHW.device)
    # Reflection at the outer edges of pixels, which align_corners=False means, is BORDER_REFLECT: cba|abc.
    sample = partial(
        functional.grid_sample, grid=_grid(theta_N23, height, width), padding_mode="reflection", align_corners=False
    )
    images = sample(images_NCHW, mode="bilinear")
    targets = sample(targets_NHW[:, None].to(images_NCHW), mode="nearest")
    return images, targets[:, 0].to(targets_NHW.dtype)


def _grid(theta_N23: Tensor, height_px: int, width_px: int) -> Tensor:
    """(N, H, W, 2): where each pixel comes from. Sums, not `affine_grid`'s matrix product, which a process may have
    set to TF32: its 11 bits are a tenth of a pixel at 256 px."""
    x_W, y_H = (
        (2 * torch.arange(side, device=theta_N23.device, dtype=torch.float32) + 1) / side - 1
        for side in (width_px, height_px)
    )
    across_NW2 = theta_N23[:, None, :, 0] * x_W[:, None]
    down_NH2 = theta_N23[:, None, :, 1] * y_H[:, None] + theta_N23[:, None, :, 2]
    return across_NW2[:, None] + down_NH2[:, :, None]


def _to_source(matrices_N23: NDArray[np.float64], height_px: int, width_px: int) -> NDArray[np.float64]:
    """Destination to source, with the patch from -1 to 1 from edge to edge, as torch has it."""
    full_N33 = np.zeros((len(matrices_N23), 3, 3))
    full_N33[:, :2], full_N33[:, 2, 2] = matrices_N23, 1.0
    to_px = np.array(
        [[width_px / 2, 0, (width_px - 1) / 2], [0, height_px / 2, (height_px - 1) / 2], [0, 0, 1]], np.float64
    )
    return np.asarray((np.linalg.inv(to_px) @ np.linalg.inv(full_N33) @ to_px)[:, :2])
