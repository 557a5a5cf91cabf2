"""Attention U-Net: additive attention gates on the skips, over any encoder of segmentation-models-pytorch.

Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas" (2018). A gate looks at a skip
through the coarser decoder features and multiplies it by one learned coefficient in 0..1 per position.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.plain_unet import DoubleConv, init_he


class AttentionGate(nn.Module):
    """skip (N, S, H, W) and gating signal (N, G, H/2, W/2) -> gated skip and coefficients (N, 1, H, W).

    Oktay's grid gate: both are projected to the coarse grid, added, squashed to one coefficient, and that is
    upsampled to the skip's.
    """

    def __init__(self, skip_channels: int, gating_channels: int) -> None:
        super().__init__()
        inner_channels = max(skip_channels // 2, 1)
        self.from_skip = nn.Conv2d(skip_channels, inner_channels, kernel_size=2, stride=2, bias=False)
        self.from_gating = nn.Conv2d(gating_channels, inner_channels, kernel_size=1)
        self.to_coefficient = nn.Conv2d(inner_channels, 1, kernel_size=1)
        self.project = nn.Sequential(
            nn.Conv2d(skip_channels, skip_channels, kernel_size=1, bias=False), nn.BatchNorm2d(skip_channels)
        )
        self.apply(init_he)

    def forward(self, skip: Tensor, gating: Tensor) -> tuple[Tensor, Tensor]:
        joined = F.relu(self.from_skip(skip) + self.from_gating(gating))
        coarse = torch.sigmoid(self.to_coefficient(joined))
        coefficients_N1HW = F.interpolate(coarse, size=skip.shape[2:], mode="bilinear", align_corners=False)
        return self.project(coefficients_N1HW * skip), coefficients_N1HW


class _GatedUp(nn.Module):
    """One decoder level: gate the skip by the features below, upsample those, join, convolve twice."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        # The level at full resolution has no skip; transformer encoders have none at 1/2 either.
        self.gate = AttentionGate(skip_channels, in_channels) if skip_channels else None
        self.conv = DoubleConv(in_channels + skip_channels, out_channels)
        self.conv.apply(init_he)

    def forward(self, below: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None]:
        above = F.interpolate(below, scale_factor=2.0, mode="nearest")
        if self.gate is None or skip is None:
            return self.conv(above), None
        gated, coefficients_N1HW = self.gate(skip, below)
        return self.conv(torch.cat([above, gated], dim=1)), coefficients_N1HW


class AttentionUnet(nn.Module):
    """images_NCHW -> logits_NKHW; height and width must be multiples of 32.

    `encoder` is one of segmentation-models-pytorch with depth 5: it gives features at 1, 1/2 ... 1/32 of the
    input, `out_channels` of them. `decoder_channels` run from the deepest level to full resolution.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        out_channels: Sequence[int],
        classes: int,
        decoder_channels: Sequence[int],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        deepest, *skips = reversed(out_channels[1:])
        inputs = [deepest, *decoder_channels[:-1]]
        self.decoder = nn.ModuleList(
            _GatedUp(below, skip, out) for below, skip, out in zip(inputs, [*skips, 0], decoder_channels, strict=True)
        )
        self.head = nn.Conv2d(decoder_channels[-1], classes, kernel_size=3, padding=1)
        self.head.apply(init_he)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.forward_with_attention(images_NCHW)[0]

    def forward_with_attention(self, images_NCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and each gate's coefficients (N, 1, h, w), deepest first: for figures."""
        features: list[Tensor] = self.encoder(images_NCHW)
        x, *skips = reversed(features[1:])
        coefficients: list[Tensor] = []
        for i, level in enumerate(self.decoder):
            x, gate_N1HW = level(x, skips[i] if i < len(skips) else None)
            if gate_N1HW is not None:
                coefficients.append(gate_N1HW)
        return self.head(x), coefficients
