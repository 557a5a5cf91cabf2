"""An own network: any torch module from images to logits of the same height and width."""

import torch
from torch import Tensor, nn

from mylab.blocks import double_conv


class TinyUnet(nn.Module):
    """Two levels and one skip: small enough for an example."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.down = double_conv(3, width)
        self.deep = nn.Sequential(nn.MaxPool2d(2), double_conv(width, 2 * width), nn.Upsample(scale_factor=2))
        self.up = double_conv(3 * width, width)
        self.head = nn.Conv2d(width, classes, kernel_size=1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        fine = self.down(images_NCHW)
        return self.head(self.up(torch.cat([fine, self.deep(fine)], dim=1)))


def build(classes: int, width: int = 16) -> nn.Module:
    """float32 (N, 3, H, W) -> float32 logits (N, classes, H, W)."""
    return TinyUnet(classes, width)
