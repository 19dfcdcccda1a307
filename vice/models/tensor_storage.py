"""Tensor storage: the numbers of a tensor file, and views of them that stay inside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Numbers of a view that may repeat those of its storage, as an expanded tensor's do.
_MAX_EXPANDED = 2**22


@dataclass(frozen=True)
class Storage:
    """A stretch of numbers that tensors share.

    Attributes:
        dtype: Of the numbers.
        numel: How many there are.
        data: Them, as bytes; None where only shapes are wanted.
    """

    dtype: torch.dtype
    numel: int
    data: bytearray | memoryview | None

    def view(self, offset: Any, size: Any, stride: Any, dtype: Any = None) -> Tensor:
        """A tensor of these numbers, which shares their memory; on no device without data.

        Args:
            offset: First number.
            size: Shape.
            stride: Numbers between neighbours along each axis.
            dtype: Another type to read the bytes as.

        Raises:
            ValueError: It would reach outside.
        """
        dtype = dtype or self.dtype
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"a tensor of type {dtype!r}")
        numel = self.numel * self.dtype.itemsize // dtype.itemsize
        size, stride = _whole(size), _whole(stride)
        (offset,) = _whole((offset,))
        count = math.prod(size)
        last = sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else -1
        if offset + last >= numel or offset > numel:
            raise ValueError(f"a tensor {size} reaches outside its {numel} numbers")
        if count > max(numel, _MAX_EXPANDED):
            raise ValueError(f"a tensor {size} has only {numel} numbers")
        if self.data is None:
            return torch.empty_strided(size, stride, dtype=dtype, device="meta")
        if not numel:
            return torch.empty_strided(size, stride, dtype=dtype)
        flat = torch.frombuffer(self.data, dtype=dtype, count=numel)
        return flat.as_strided(size, stride, offset)


def _whole(values: Any) -> tuple[int, ...]:
    sizes = tuple(values)
    if not all(type(value) is int and 0 <= value < 2**63 for value in sizes):
        raise ValueError("sizes that are no whole numbers")
    return sizes
