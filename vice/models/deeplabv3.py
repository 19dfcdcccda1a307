"""DeepLabV3 decoder (Chen et al. 2017), whose output has the stride of its backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.models.deeplabv3plus import ASPP_RATES


class DeepLabV3(nn.Module):
    """Atrous spatial pyramid pooling of the last stage, full convolutions, one 3x3 more.

    Args:
        channels: Widths of the backbone's stages, finest first.
        dim: Width D of the embedding.
        output_stride: The backbone's output stride, 8 or 16, and the output's; fixes the rates.
        width: Channels inside the decoder.
        dropout: Chance of a value after the pyramid to be dropped in training.
    """

    def __init__(
        self,
        channels: Sequence[int],
        dim: int = 128,
        *,
        output_stride: int = 8,
        width: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        rates = ASPP_RATES[output_stride]
        self.stride = output_stride
        self.branches = nn.ModuleList(
            _conv(channels[-1], width, 1 if rate == 1 else 3, rate) for rate in rates
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), _conv(channels[-1], width, 1))
        self.join = nn.Sequential(_conv(width * (len(rates) + 1), width, 1), nn.Dropout(dropout))
        self.smooth = _conv(width, width, 3)
        self.project = nn.Conv2d(width, dim, kernel_size=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Embedding (B, D, h, w) of the size of the last of the features."""
        projected: Tensor = self.project(self.fused(features))
        return projected

    def fused(self, features: Sequence[Tensor]) -> Tensor:
        """What the embedding is projected from, (B, width, h, w)."""
        last = features[-1]
        pooled = self.pool(last).expand(-1, -1, *last.shape[-2:])
        pyramid = torch.cat([*(branch(last) for branch in self.branches), pooled], dim=1)
        found: Tensor = self.smooth(self.join(pyramid))
        return found


class _BatchNorm(nn.BatchNorm2d):
    """Batch normalization that a batch of a single value passes by its running statistics."""

    def forward(self, values: Tensor) -> Tensor:
        single = values.numel() == values.shape[1]
        if self.training and single:
            return F.batch_norm(
                values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(values)


def _conv(in_channels: int, out_channels: int, kernel: int, rate: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            padding=rate * (kernel // 2),
            dilation=rate,
            bias=False,
        ),
        _BatchNorm(out_channels),
        nn.ReLU(inplace=True),
    )
