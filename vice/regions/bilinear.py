"""Bilinear weights along each axis: where pixels lie between cells, and their two weights there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Axis(NamedTuple):
    """Where the pixels of one axis lie between the cells.

    Attributes:
        low: int64 (n,), the cell before each pixel.
        high: int64 (n,), the cell after it, the same at the border.
        share: float (n,), weight of ``high``.
    """

    low: Tensor
    high: Tensor
    share: Tensor


def axis(pixels: int, cells: int, like: Tensor, *, align_corners: bool = False) -> Axis:
    """Bilinear weights of one axis, as `torch.nn.functional.interpolate` places them.

    Args:
        pixels: Number of pixels.
        cells: Number of cells.
        like: Gives dtype and device of the weights.
        align_corners: As in `torch.nn.functional.interpolate`.
    """
    position = torch.arange(pixels, device=like.device, dtype=torch.float64)
    if align_corners:
        position = position * ((cells - 1) / (pixels - 1) if pixels > 1 else 0.0)
    else:
        position = ((position + 0.5) * (cells / pixels) - 0.5).clamp(min=0)
    low = position.floor().long().clamp(max=cells - 1)
    high = (low + 1).clamp(max=cells - 1)
    # Border: beyond the last cell there is but that one, whatever its share.
    share = torch.where(low == high, 0, (position - low).clamp(max=1))
    return Axis(low, high, share.to(like.dtype))


def corner_weights(down: Tensor, right: Tensor) -> Tensor:
    """Shares (h * w, 4) of the four cells around each pixel."""
    down = down.unsqueeze(1)
    weights = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    return torch.stack(weights, 2).view(-1, 4)


def pairs(share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Products of a pixel's two weights along an axis: near with near, near with far, far with far.

    Args:
        share: (n,), weight of the cell after each pixel.
    """
    return (1 - share).square(), share * (1 - share), share.square()


def pair_sums(along: Axis, cells: int) -> Tensor:
    """What pixels give of each cell to the one before it, itself and the one after it.

    Returns:
        (3 * cells, n): the matrix that adds up `pairs` of an axis over its n pixels.
    """
    pixel = torch.arange(len(along.low), device=along.low.device)
    near, both, far = pairs(along.share)
    matrix = along.share.new_zeros(3, cells, len(pixel))
    # Border: where both cells are the same one, the weights of the second are zero.
    matrix[0, along.high, pixel] = both
    matrix[2, along.low, pixel] = both
    matrix[1, along.high, pixel] = far
    matrix[1, along.low, pixel] += near
    return matrix.flatten(0, 1)


def around(height: int, width: int, device: torch.device) -> Tensor:
    """Each cell's neighbours (h' * w', 9) and itself in scan order; those on a border repeat."""
    step = torch.arange(-1, 2, device=device)
    y = (torch.arange(height, device=device)[:, None] + step).clamp(0, height - 1)
    x = (torch.arange(width, device=device)[:, None] + step).clamp(0, width - 1)
    return (y[:, None, :, None] * width + x[None, :, None, :]).view(-1, 9)
