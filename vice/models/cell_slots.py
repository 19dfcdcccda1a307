"""Where upsampled rows and columns lie within the cells of a map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slots:
    """Where the upsampled rows or columns lie within the cells; those of one place share a slot.

    Attributes:
        cell: int64 (N,), of each row.
        slot: int64 (N,), number of its place within the cell.
        weights: (cells, slots, 2), of both sides at each place; 0 where there is none.
    """

    cell: Tensor
    slot: Tensor
    weights: Tensor

    @classmethod
    def of(cls, cell: Tensor, weights: Tensor, cells: int) -> Slots:
        """Slots of ascending rows with their weights, (N, 2)."""
        moved = torch.ones(len(cell), dtype=torch.bool)
        moved[1:] = (cell[1:] != cell[:-1]) | (weights[1:] != weights[:-1]).any(1)
        place = moved.cumsum(0) - 1
        first = torch.searchsorted(cell, torch.arange(cells)).clamp(max=len(cell) - 1)
        slot = place - place[first][cell]
        table = weights.new_zeros(cells, int(slot.max()) + 1, 2)
        table[cell, slot] = weights
        return cls(cell, slot, table)
