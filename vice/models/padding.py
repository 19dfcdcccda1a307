"""Convolutions with another border than zeros, in low precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.models.plain import is_plain


class PaddedConv2d(nn.Conv2d):
    """A convolution that puts its border around a map in the precision that it multiplies in.

    Autocast would have PyTorch do so in float32 on a CPU: three copies of the map for one. Values
    are the same, and gradients up to the rounding of sums at the border.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        device = input.device.type
        if self.padding_mode == "zeros" or is_plain() or device not in ("cpu", "cuda"):
            return super()._conv_forward(input, weight, bias)
        if not torch.is_autocast_enabled(device):
            return F.conv2d(self._padded(input), weight, bias, *self._rest())
        # float16: not every version of PyTorch pads in it.
        if torch.get_autocast_dtype(device) == torch.bfloat16:
            input = input.bfloat16()
        with torch.autocast(device, enabled=False):
            padded = self._padded(input)
        return F.conv2d(padded, weight, bias, *self._rest())

    def _padded(self, input: Tensor) -> Tensor:
        around = self._reversed_padding_repeated_twice
        return F.pad(input, around, mode=self.padding_mode) if any(around) else input

    def _rest(self) -> tuple[tuple[int, ...], int, tuple[int, ...], int]:
        return self.stride, 0, self.dilation, self.groups


def set_padding(conv: nn.Conv2d, mode: str) -> None:
    """Has a convolution take another border, in place.

    Args:
        conv: One of PyTorch's own.
        mode: As `torch.nn.Conv2d` takes it.
    """
    conv.__class__ = PaddedConv2d
    conv.padding_mode = mode
    # Padding: the constructor derives this from it, and dilation may have changed it since.
    rows, columns = conv.padding
    conv._reversed_padding_repeated_twice = [columns, columns, rows, rows]
