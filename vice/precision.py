"""The precision that losses and heads compute in, whatever the network before them did."""

from __future__ import annotations

import torch
from torch import Tensor

#: Floats that NumPy has; it has no bfloat16, and none of 8 bits.
_OF_NUMPY = (torch.float16, torch.float32, torch.float64)


def for_numpy(values: Tensor) -> Tensor:
    """The same on the CPU, without gradient, in a type that NumPy has: float32 for want of it."""
    narrow = values.is_floating_point() and values.dtype not in _OF_NUMPY
    return (values.float() if narrow else values).detach().cpu()


def full_precision(values: Tensor) -> Tensor:
    """float64 as it is, all else as float32: sums over pixels are none for half precision."""
    return values if values.dtype == torch.float64 else values.float()
