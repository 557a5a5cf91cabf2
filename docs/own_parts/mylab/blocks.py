"""What the network is made of: its source counts for the fingerprint as well, because nets.py imports it."""

from torch import nn


def double_conv(inputs: int, outputs: int) -> nn.Module:
    """Two 3x3 convolutions with batch normalisation."""
    layers = []
    for before in (inputs, outputs):
        layers += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
