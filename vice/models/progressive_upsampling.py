"""Progressive upsampling (SETR-PUP, Zheng et al. 2021), the light decoder of a plain ViT."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class ProgressiveUpsampling(nn.Module):
    """A 1x1 projection to D channels, then learnt steps that double the resolution.

    SETR's convolutions are full and as wide as its transformer; these are depthwise separable and
    D wide, so that what is learnt on top of frozen features stays small.

    Args:
        channels: Width of the backbone's map, alone in a sequence.
        dim: Width D of the embedding.
        patch: Stride of the backbone's map in pixels; as many steps as bring it nearest to 4.
        align_corners: How the maps are upsampled.
    """

    stride = 4

    def __init__(
        self,
        channels: Sequence[int],
        dim: int = 128,
        *,
        patch: int = 16,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        (width,) = channels
        self.project = nn.Conv2d(width, dim, kernel_size=1)
        count = max(0, round(math.log2(patch / self.stride)))
        self.steps = nn.ModuleList(UpsamplingStep(dim, align_corners) for _ in range(count))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """One map (B, C, h, w), alone in a sequence, to (B, D, 2^n h, 2^n w) after n steps."""
        dense = self.project(features[-1])
        for step in self.steps:
            dense = step(dense)
        return dense


class UpsamplingStep(nn.Module):
    """Twice the resolution: bilinear, plus what a depthwise separable 3x3 convolution adds.

    Args:
        dim: Width of the map.
        align_corners: How it is upsampled.
    """

    def __init__(self, dim: int, align_corners: bool = False) -> None:
        super().__init__()
        self.refine = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False),
            nn.BatchNorm2d(dim),
            nn.ReLU(inplace=True),
            nn.Conv2d(dim, dim, kernel_size=1),
        )
        self.align_corners = align_corners

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, h, w) to (B, D, 2h, 2w)."""
        up = F.interpolate(
            features, scale_factor=2, mode="bilinear", align_corners=self.align_corners
        )
        return up + self.refine(up)
