"""The greatest upsampled score at every place of every cell, where many channels can be it.

Between four neighbors of a map an upsampled score is a sum of four products, so all places of some
cells beside each other are one product of matrices: weights, which are zero for corners of other
cells, times scores at their corners. Few operators then do what sorting channels out would take
longer for.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vice.models.cell_slots import Slots

#: Cells beside each other in one product: more waste multiplications with zero, fewer calls.
_BESIDE = 2
#: Most bytes of upsampled scores that exist at a time, what a processor's cache holds, and of those
#: of one row of cells.
_CACHED, _LONGEST = 2**21, 2**23


def winners(
    scores: Tensor, down: Slots, right: Slots, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """The best channel at each place of each cell, and where another is as good to rounding.

    Args:
        scores: (K, r + 1, w) float, finite, of at least two rows and two columns, on the CPU.
        down: Where rows lie in r rows of cells.
        right: Where columns lie in w columns of cells, of which the last has none.
        margin: How far apart rounding can move two upsampled scores.

    Returns:
        int32 (r * w, places), and bool of the same shape; cell y * w + x has its upper left corner
        at (y, x). Where another is as good, which one it is means nothing.
    """
    channels, height, columns = scores.shape
    shape = (height - 1, columns, down.weights.shape[1], right.weights.shape[1])
    best = np.zeros(shape, np.int32)
    near = np.zeros(shape, bool)
    channels_last = scores.permute(1, 2, 0).contiguous()
    # One row of cells at least exists at a time, or a part of it where it is long.
    most = max(_BESIDE, _LONGEST // (channels * shape[2] * shape[3] * scores.element_size()))
    # Cells at the edges have one place more, on them; all others are spared it.
    for y in _inner_and_edges(height - 1, height):
        for x in _inner_and_edges(columns - 1, most):
            part = channels_last[y.start : y.stop + 1, x.start : x.stop + 1]
            here, beside = _used(down.weights[y]), _used(right.weights[x])
            inside = (y, x, slice(here.shape[1]), slice(beside.shape[1]))
            _fill(best[inside], near[inside], part, (here, beside), margin)
    flat = (shape[0] * columns, -1)
    return best.reshape(flat), near.reshape(flat)


def _fill(
    best: np.ndarray,
    near: np.ndarray,
    scores: Tensor,
    weights: tuple[Tensor, Tensor],
    margin: float,
) -> None:
    """Fills (r, w, places down, places across), from (r + 1, w + 1, K) and weights of both."""
    down, right = weights
    rows, columns, high, long = best.shape
    channels = scores.shape[2]
    beside = min(_BESIDE, columns)
    blocks = -(-columns // beside)
    wide = blocks * beside
    # (r + 1, blocks, columns of a block, K).
    padded = F.pad(scores, (0, 0, 0, wide - columns))
    corners = padded.unfold(1, beside + 1, beside).transpose(2, 3)
    across = _side_by_side(right, blocks, beside)
    at_once = max(1, _CACHED // (channels * wide * high * long * scores.element_size()))
    # Memory that is had once stays in the cache, and its pages are there.
    shape = (min(at_once, rows) * blocks, beside * high * long, channels)
    memory, close = scores.new_empty(shape), np.empty(shape, bool)
    for top in range(0, rows, at_once):
        band = slice(top, min(top + at_once, rows))
        sides = torch.stack([corners[band], corners[band.start + 1 : band.stop + 1]], 2)
        # (rows, blocks, cells, places down, places across, 2 sides, columns of a block).
        both = down[band][:, None, None, :, None, :, None] * across[None, :, :, None, :, None, :]
        values = memory[: len(sides) * blocks]
        torch.bmm(
            both.flatten(5).flatten(2, 4).flatten(0, 1),
            sides.flatten(2, 3).flatten(0, 1),
            out=values,
        )
        least = values.amax(2, keepdim=True) - margin
        # NumPy compares several times as fast as PyTorch.
        found = np.greater_equal(values.numpy(), least.numpy(), out=close[: len(values)])
        place, channel = np.divmod(np.flatnonzero(found), channels)
        winner = np.empty((len(sides), wide, high, long), np.int32)
        winner.reshape(-1)[place] = channel
        number = np.bincount(place, minlength=winner.size).reshape(winner.shape)
        best[band], near[band] = winner[:, :columns], number[:, :columns] > 1


def _inner_and_edges(cells: int, most: int) -> list[slice]:
    bounds = sorted({0, *range(1, max(1, cells - 1), most), max(1, cells - 1), cells})
    return [slice(*each) for each in pairwise(bounds)]


def _used(weights: Tensor) -> Tensor:
    """Weights of cells without the places that none of them has."""
    return weights[:, : max(1, int((weights != 0).any(2).sum(1).max()))]


def _side_by_side(weights: Tensor, blocks: int, beside: int) -> Tensor:
    """Weights of the columns of blocks of cells, (blocks, cells, places, columns of a block).

    Args:
        weights: (cells, places, 2).
        blocks: How many.
        beside: Cells of a block.
    """
    cells, places, _ = weights.shape
    padded = F.pad(weights, (0, 0, 0, 0, 0, blocks * beside - cells))
    padded = padded.view(blocks, beside, places, 2)
    table = weights.new_zeros(blocks, beside, places, beside + 1)
    for cell in range(beside):
        table[:, cell, :, cell : cell + 2] = padded[:, cell]
    return table
