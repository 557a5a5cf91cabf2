"""A network that costs next to nothing, for rows that are about everything else."""

from __future__ import annotations

from torch import nn


def build(classes: int) -> nn.Module:
    """One 1x1 convolution of means over 16 x 16 pixels."""
    return nn.Sequential(nn.AvgPool2d(16), nn.Conv2d(3, classes, 1), nn.Upsample(scale_factor=16))
