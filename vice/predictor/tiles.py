"""Where tiles lie along the rows or the columns of an image, and what each has to see."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from vice.models.upsampling import RowsBetween
from vice.predictor.reach import Layout, Reach

#: First one, and the one after the last.
Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """A tile along one axis.

    Attributes:
        window: Pixels of the canvas that the network is given; starts at a multiple of the stride.
        cells: Cells of the canvas that are used of what it returns.
        grid: Cells of the result that this tile gives.
        seen: The same, and those beside them that pixels of this tile lie between.
        pixels: Pixels of the image that this tile gives.
    """

    window: Span
    cells: Span
    grid: Span
    seen: Span
    pixels: Span

    @property
    def slice(self) -> slice:
        """The cells that it gives."""
        return slice(*self.grid)


@dataclass(frozen=True)
class Axis:
    """Rows or columns of an image, of what a network makes of it first, and of the result.

    Attributes:
        pixels: Of the image.
        canvas: Of what the network makes of it first.
        cells: Of what it returns.
        grid: Of the result.
        before: Pixels of context, a multiple of the stride.
        after: The same after a tile.
        stride: Pixels of a step.
        per_step: Cells of one.
    """

    pixels: int
    canvas: int
    cells: int
    grid: int
    before: int
    after: int
    stride: int
    per_step: int

    @property
    def overhead(self) -> int:
        """Pixels of a window beside its core."""
        return self.before + self.after + self.stride * (1 + -(-4 // self.per_step))

    def pieces(self, core: int) -> list[Piece]:
        """Tiles whose cores are so many pixels, a multiple of the stride."""
        if core >= self.canvas:
            grid = (0, self.grid)
            return [Piece((0, self.canvas), (0, self.cells), grid, grid, (0, self.pixels))]
        bounds = [start // self.stride * self.per_step for start in range(0, self.canvas, core)]
        bounds = [*[bound for bound in bounds if bound < self.cells], self.cells]
        above_cell = between(self.grid, self.cells).above
        above_grid = between(self.pixels, self.grid).above
        cells = _parts(above_cell, bounds)
        pixels = _parts(above_grid, cells)
        return [
            self._piece(one, other)
            for one, other in zip(pairwise(cells), pairwise(pixels), strict=True)
            if one[0] < one[1]
        ]

    def _piece(self, grid: Span, pixels: Span) -> Piece:
        # Rounding may place a pixel on the other side of a cell.
        seen = (max(0, grid[0] - 1), min(grid[1] + 2, self.grid))
        rows = between(self.grid, self.cells)
        cells = (int(rows.above[seen[0]]), int(rows.below[seen[1] - 1]) + 1)
        start = cells[0] // self.per_step * self.stride - self.before
        stop = -(-cells[1] // self.per_step) * self.stride + self.after
        window = (max(0, start), min(self.canvas, stop))
        return Piece(window, cells, grid, seen, pixels)


def between(length: int, source: int) -> RowsBetween:
    """Rows of a map that is resized bilinearly to a length."""
    like = torch.empty(0)
    index = torch.arange(length)
    if length == source:
        return RowsBetween(index, index, torch.zeros(length, 1))
    return RowsBetween.of(index, like, length, source)


def _parts(above: Tensor, bounds: list[int]) -> list[int]:
    """Where the rows begin that lie below each bound of their source; the last one is the end."""
    starts = torch.searchsorted(above, torch.tensor(bounds[1:-1], dtype=above.dtype)).tolist()
    return [0, *starts, len(above)]


def axes(layout: Layout, reach: Reach, context: int) -> tuple[Axis, Axis]:
    """Both axes of an image.

    Args:
        layout: Of the image.
        reach: Of the network.
        context: Pixels of context where the network sees the whole image.
    """
    step, whole = reach.stride, layout.whole
    before = -(-context // step) * step if reach.before is None else reach.before
    after = -(-context // step) * step if reach.after is None else reach.after
    made = []
    for axis in (0, 1):
        # Stretched maps: over the whole image, their cells move by less than one of the coarsest.
        stretched = any(
            resize.source[axis] * target[axis] != resize.target[axis] * source[axis]
            for resize, (source, target) in zip(whole.resizes, layout.starts, strict=True)
        )
        more = step * stretched
        made.append(
            Axis(
                whole.size[axis],
                whole.canvas[axis],
                whole.cells[axis],
                whole.grid[axis],
                before + more,
                after + more,
                step,
                reach.cells,
            )
        )
    return made[0], made[1]
