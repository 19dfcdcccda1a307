"""The precision that losses and heads compute in, whatever the network before them did."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """float64 as it is, all else as float32: sums over pixels are none for half precision."""
    return values if values.dtype == torch.float64 else values.float()
