"""DeepLabV3+ decoder (Chen et al. 2018), the high-resolution decoder of ViCE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Dilation rates of the ASPP branches at each output stride of the backbone.
ASPP_RATES = {8: (1, 12, 24, 36), 16: (1, 6, 12, 18)}


class DeepLabV3Plus(nn.Module):
    """Atrous spatial pyramid pooling, then fusion with stage-1 features at stride 4.

    Args:
        channels: Widths of the four backbone stages, finest first.
        dim: Width D of the embedding.
        output_stride: The backbone's output stride, 8 or 16; fixes the ASPP rates.
        width: Channels inside the decoder.
        low_width: Channels kept of the stage-1 features.
        align_corners: How the ASPP output is upsampled.
    """

    stride = 4

    def __init__(
        self,
        channels: Sequence[int],
        dim: int = 128,
        *,
        output_stride: int = 8,
        width: int = 256,
        low_width: int = 48,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.aspp = ASPP(channels[-1], width, ASPP_RATES[output_stride])
        self.low = _conv(channels[0], low_width, 1)
        self.fuse = nn.Sequential(
            _separable(width + low_width, width, 1), _separable(width, width, 1)
        )
        self.project = nn.Conv2d(width, dim, kernel_size=1)
        self.align_corners = align_corners

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Embedding at stride 4.

        Args:
            features: Four maps (B, channels[i], h_i, w_i), finest first; the first and the last
                are used.

        Returns:
            (B, D, h_0, w_0).
        """
        return self.project(self.fused(features))

    def fused(self, features: Sequence[Tensor]) -> Tensor:
        """What the embedding is projected from, (B, width, h_0, w_0)."""
        low = self.low(features[0])
        high = F.interpolate(
            self.aspp(features[-1]),
            size=low.shape[-2:],
            mode="bilinear",
            align_corners=self.align_corners,
        )
        return self.fuse(torch.cat([high, low], dim=1))


class ASPP(nn.Module):
    """Parallel dilated branches and global pooling, concatenated and projected.

    Args:
        in_channels: Input width.
        width: Output width, also of each branch.
        rates: Dilation of each branch; rate 1 is a plain 1x1 convolution, the others are
            depthwise-separable 3x3 convolutions.
    """

    def __init__(self, in_channels: int, width: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            _conv(in_channels, width, 1) if rate == 1 else _separable(in_channels, width, rate)
            for rate in rates
        )
        # The pooled map is one pixel: batch statistics over B values only, hence the norm is
        # left out when it would be undefined (B = 1 in training).
        self.pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(in_channels, width, 1), nn.ReLU(inplace=True)
        )
        self.project = _conv(width * (len(rates) + 1), width, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, in_channels, h, w) to (B, width, h, w)."""
        pooled = self.pool(features).expand(-1, -1, *features.shape[-2:])
        branches = [branch(features) for branch in self.branches]
        return self.project(torch.cat([pooled, *branches], dim=1))


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _separable(in_channels: int, out_channels: int, rate: int) -> nn.Sequential:
    depthwise = nn.Conv2d(
        in_channels, in_channels, 3, padding=rate, dilation=rate, groups=in_channels, bias=False
    )
    return nn.Sequential(
        depthwise,
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        *_conv(in_channels, out_channels, 1),
    )
