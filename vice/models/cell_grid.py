"""Which pixels lie between which four neighbors of a score map, and what their labels are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vice.labels import IGNORE
from vice.models.cell_slots import Slots
from vice.models.upsampling import RowsBetween, columns_between


@dataclass(frozen=True)
class Grid:
    """Which pixels lie in which cell; cell y * w + x has its upper left corner at (y, x).

    Attributes:
        map_size: (h, w) of the scores.
        rows: All rows of the image.
        down: Where rows lie within cells.
        right: Where columns do.
        cell: int64 (H * W,), of each pixel.
        order: int64 (H * W,), pixels by cell.
        starts: int64 (h * w + 1,), where those of a cell begin.
        place: int64 (H * W,), where in its cell each pixel of that order lies.
    """

    map_size: tuple[int, int]
    rows: RowsBetween
    down: Slots
    right: Slots
    cell: Tensor
    order: np.ndarray
    starts: np.ndarray
    place: np.ndarray

    @property
    def places(self) -> int:
        """How many different places a cell has."""
        return self.down.weights.shape[1] * self.right.weights.shape[1]

    @property
    def corners(self) -> np.ndarray:
        """How far the four corners lie behind the first, int64 (4,)."""
        width = self.map_size[1]
        return np.array([0, 1, width, width + 1])


@lru_cache(maxsize=16)
def grid_of(map_size: tuple[int, int], size: tuple[int, int], dtype: torch.dtype) -> Grid | None:
    """The cells of a map that is upsampled to a size; None where weights are not known exactly."""
    height, width = map_size
    like = torch.zeros(1, 1, height, width, dtype=dtype)
    across = columns_between(like, size[1])
    if across is None:
        return None
    rows = RowsBetween.of(torch.arange(size[0]), like, size[0])
    upper = rows.above.clamp(max=height - 2)
    # The last row lies between the last two, with the whole weight on the lower.
    below = torch.where(rows.above == upper, rows.share[:, 0], 1)
    down = Slots.of(upper, torch.stack([1 - below, below], 1), height - 1)
    right = Slots.of(across[0], across[1], width)
    cell = ((down.cell * width)[:, None] + right.cell).flatten()
    place = ((down.slot * right.weights.shape[1])[:, None] + right.slot).flatten()
    order = cell.argsort(stable=True)
    starts = torch.searchsorted(cell[order], torch.arange(height * width + 1))
    return Grid(
        map_size, rows, down, right, cell, order.numpy(), starts.numpy(), place[order].numpy()
    )


@dataclass(frozen=True)
class CellLabels:
    """The labels of an image; those to ignore are class C.

    Attributes:
        flat: int64 (H * W,).
        of_cells: int64 (h * w, C + 1), how often each class is in each cell.
        labelled: bool (h * w,), whether a cell has a label that counts.
    """

    flat: np.ndarray
    of_cells: Tensor
    labelled: np.ndarray

    @classmethod
    def of(cls, labels: Tensor, classes: int, grid: Grid) -> CellLabels | None:
        """None where one is no class."""
        flat = labels.flatten().long()
        ignored = flat == IGNORE
        if ((flat < 0) | (flat >= classes) & ~ignored).any():
            return None
        flat = torch.where(ignored, classes, flat)
        cells = grid.map_size[0] * grid.map_size[1]
        columns = classes + 1
        counts = torch.bincount(grid.cell * columns + flat, minlength=cells * columns)
        of_cells = counts.view(cells, columns)
        return cls(flat.numpy(), of_cells, (of_cells[:, :-1].sum(1) > 0).numpy())
