"""The classic U-Net without a pretrained backbone.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (MICCAI
2015), with two changes that are customary today: same padding, so that logits have the input's size, and
batch normalisation after each convolution.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each with batch normalisation and ReLU; keeps height and width."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class _Up(nn.Module):
    """Doubles height and width by a 2x2 transposed convolution, then joins the skip."""

    def __init__(self, in_channels: int, skip_channels: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(in_channels, skip_channels, kernel_size=2, stride=2)
        self.conv = DoubleConv(2 * skip_channels, skip_channels)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.conv(torch.cat([skip, self.upsample(below)], dim=1))
        return joined


class PlainUnet(nn.Module):
    """images_NCHW -> logits_NKHW; height and width must be multiples of 2 ** (len(widths) - 1).

    `widths` are the channels per level from the top (full resolution) to the bottom.
    """

    def __init__(self, *, classes: int, in_channels: int = 3, widths: Sequence[int] = (32, 64, 128, 256, 512)) -> None:
        super().__init__()
        self.stem = DoubleConv(in_channels, widths[0])
        self.down = nn.ModuleList(DoubleConv(above, below) for above, below in pairwise(widths))
        self.pool = nn.MaxPool2d(2)
        bottom_up = list(reversed(widths))
        self.up = nn.ModuleList(_Up(below, above) for below, above in pairwise(bottom_up))
        self.head = nn.Conv2d(widths[0], classes, kernel_size=1)
        self.apply(init_he)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        features = [self.stem(images_NCHW)]
        for level in self.down:
            features.append(level(self.pool(features[-1])))
        x = features.pop()
        for level in self.up:
            x = level(x, features.pop())
        logits_NKHW: Tensor = self.head(x)
        return logits_NKHW


def init_he(module: nn.Module) -> None:
    """Draw a convolution's weights as He et al. (2015) do, which is Ronneberger's sqrt(2 / N) too."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
