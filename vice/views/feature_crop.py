"""Square crops with flips of a batch of maps, images or embeddings, in one sampling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_box(side: int, ratio: float, row: float, column: float) -> tuple[int, int, int]:
    """The square crop of a square map, as PiCIE rounds it.

    Args:
        side: Length of the map.
        ratio: Length of the crop as a share of it, in (0, 1]; truncated to whole cells.
        row: Where the crop lies between the top (0) and the bottom (1).
        column: The same from left to right.

    Returns:
        First row, first column and length, in cells; offsets are rounded half to even.

    Example:
        >>> from vice.views.feature_crop import crop_box
        >>> crop_box(640, 0.6347, 0.3, 0.8), crop_box(80, 0.6347, 0.3, 0.8)
        ((70, 187, 406), (9, 24, 50))
    """
    length = math.trunc(ratio * side)
    return round((side - length) * row), round((side - length) * column), length


def crop_resize(maps: Tensor, boxes: Tensor, flips: Tensor, size: int) -> Tensor:
    """Cuts a square out of each map, resizes it bilinearly, and flips some from left to right.

    Equal to a slice, ``interpolate(mode="bilinear", align_corners=False)`` and a flip of each map
    by itself: source coordinates are clamped to the box, so that nothing outside of it is seen.

    Args:
        maps: (B, C, H, W) floating point.
        boxes: (B, 3): first row, first column and length of each, in cells, on the maps' device.
        flips: (B,) bool.
        size: Length of the results.

    Returns:
        (B, C, size, size), differentiable in the maps.
    """
    height, width = maps.shape[2:]
    boxes = boxes.to(maps.dtype)
    cells = torch.arange(size, device=maps.device, dtype=maps.dtype)
    mirrored = torch.where(flips[:, None], size - 1 - cells, cells)
    rows = _sources(cells[None], boxes[:, 0], boxes[:, 2], size)
    columns = _sources(mirrored, boxes[:, 1], boxes[:, 2], size)
    x = (2 * columns / max(width - 1, 1) - 1)[:, None, :].expand(-1, size, -1)
    y = (2 * rows / max(height - 1, 1) - 1)[:, :, None].expand(-1, -1, size)
    grid = torch.stack([x, y], dim=-1)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _sources(cells: Tensor, first: Tensor, length: Tensor, size: int) -> Tensor:
    """Coordinates (B, size) that cells of the results have in the maps."""
    length = length[:, None]
    inside = (cells + 0.5) * length / size - 0.5
    return torch.minimum(inside.clamp(min=0), length - 1) + first[:, None]
