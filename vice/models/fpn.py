"""Feature pyramid decoder of PiCIE, the low-resolution decoder of ViCE."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """Lateral 1x1 convolutions and a top-down pathway of bilinear upsampling and addition.

    No 3x3 smoothing follows (PiCIE supplement S1).

    Args:
        channels: Widths of the four backbone stages, finest first.
        dim: Width D of the embedding.
        align_corners: How the top-down maps are upsampled; False everywhere by default.
        bias: Whether the lateral convolutions have one.
    """

    #: Stride of the backbone's last stage that this decoder expects, and of its own output.
    backbone_stride = 32
    stride = 4

    def __init__(
        self,
        channels: Sequence[int],
        dim: int = 128,
        *,
        align_corners: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Conv2d(width, dim, kernel_size=1, bias=bias) for width in channels
        )
        self.align_corners = align_corners

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Embedding at stride 4.

        Args:
            features: Four maps (B, channels[i], h_i, w_i), finest first.

        Returns:
            (B, D, h_0, w_0), the size of the finest map.
        """
        top = self.lateral[-1](features[-1])
        for lateral, feature in zip(self.lateral[-2::-1], features[-2::-1], strict=True):
            up = F.interpolate(
                top, size=feature.shape[-2:], mode="bilinear", align_corners=self.align_corners
            )
            top = lateral(feature) + up
        return top
