"""Many small maps at once, on a CPU: their regions, cells and pixels, and sums over them.

`vice.regions.fragments` goes map by map. Where maps are small, what takes long is not arithmetic
but calling dozens of operators for each map, so here several maps stand side by side. Pixels of one
region between the same four cells are a patch, as there. Sums over pixels are histograms over
patches, small enough for a cache; the matrices (regions x cells) are sparse, and so are the inner
products of regions and cells, and of cells and their neighbours: those alone are computed that some
pixel needs (sampled products of dense matrices).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vice.regions.bilinear import Axis, around, axis, corner_weights, pair_sums, pairs
from vice.regions.fragments import CANCELLED, EPSILON, GATHERED, NOISE, _bounded_csr

#: Most places of a region's and a cell's number, in pixels of a map, that patches are looked up in.
PLACES = 16
#: Most elements of the D wide rows, and most pixels, of the maps that are taken at a time.
WIDE, PIXELS = 3 * 2**17, 2**17


def fits(embeddings: Tensor, numbered: Any) -> bool:
    """Whether maps are on a CPU, and small against their number of pixels."""
    if embeddings.device.type != "cpu" or not numbered.counts.numel():
        return False
    most = int(torch.bincount(numbered.index[:, 0]).max()) + 1
    cells = embeddings.shape[2] * embeddings.shape[3]
    return most * cells <= min(PLACES * numbered.size[0] * numbered.size[1], 2**31 - 1)


class Patches:
    """The pixels of one region between the same four cells, of some maps.

    Args:
        slot: int32 (m, h*w), slot of each pixel, counted within these maps.
        block: int32 (h*w,), upper left cell of each pixel of a map.
        grid: Rows and columns of a map's cells.
        slots: Slots of a map.

    Attributes:
        of_pixel: int32 (m * h*w,), patch of each pixel.
        slot: int64 (Q,), slot of each patch.
        entries: int32 (4, Q), place of its region and of each of its four cells in the matrices.
        bounds: int32 (m * slots + 1,), where the entries of each slot begin.
        column: int32 (E,), cell of each entry, counted over these maps.
    """

    def __init__(self, slot: Tensor, block: Tensor, grid: Sequence[int], slots: int) -> None:
        cells, rows = grid[0] * grid[1], len(slot) * slots
        key = (slot * cells).add_(block).flatten()
        # Histogram: a table of all places takes less than sorting the pixels would.
        table = (torch.bincount(key, minlength=rows * cells) > 0).view(rows, *grid)
        found, number = _numbered(table)
        self.of_pixel = number.index_select(0, key)
        self.slot = torch.from_numpy(found.numpy() // cells)
        table[:, :, 1:] |= table[:, :, :-1].clone()
        table[:, 1:] |= table[:, :-1].clone()
        entry, number = _numbered(table)
        corners = found + _corner_steps(grid)[:, found - self.slot * cells]
        self.entries = number.index_select(0, corners.flatten()).view(4, -1)
        row = entry.numpy() // cells
        self.column = (entry - torch.from_numpy((row - row // slots) * cells)).int()
        self.bounds = torch.searchsorted(entry, torch.arange(rows + 1) * cells, out_int32=True)


def _numbered(table: Tensor) -> tuple[Tensor, Tensor]:
    """Where a mask is set, int64 (Q,), and of each of its places the number there, int32."""
    found = places(table.view(-1))
    number = torch.empty(table.numel(), dtype=torch.int32)
    number[found] = torch.arange(len(found), dtype=torch.int32)
    return found, number


def _corner_steps(grid: Sequence[int]) -> Tensor:
    """Steps (4, h'*w') from each cell to the four that begin with it.

    In the last row and column the next cell is that one itself, as in `vice.regions.bilinear.Axis`.
    """
    down, across = (
        (torch.arange(count) < count - 1).long() * step
        for count, step in zip(grid, (grid[1], 1), strict=True)
    )
    down, across = torch.broadcast_tensors(down[:, None], across)
    return torch.stack([torch.zeros_like(down), across, down, down + across]).flatten(1)


class SmallMaps:
    """Pixels, cells and regions of B maps of one size, a slot for each region and one for none.

    Args:
        embeddings: (B, D, h', w').
        numbered: Regions as `vice.regions.index_regions` numbers them; `fits` them.
        align_corners: As in `torch.nn.functional.interpolate`.
        dtype: Of what is computed; None takes the embedding's.

    Attributes:
        slots: Slots of a map.
        slot: int64 (R,), slot of each region among all B * slots.
        patches: Those of `step` maps each.
    """

    def __init__(
        self,
        embeddings: Tensor,
        numbered: Any,
        align_corners: bool,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.maps, self.dim, *self.grid = embeddings.shape
        self.size = numbered.size
        self.cells = self.grid[0] * self.grid[1]
        like = embeddings.new_empty(0, dtype=dtype)
        self.rows = axis(self.size[0], self.grid[0], like, align_corners=align_corners)
        self.columns = axis(self.size[1], self.grid[1], like, align_corners=align_corners)
        self.shares = corner_weights(self.rows.share, self.columns.share).t().contiguous()
        self.mixing = [
            _mixing(each, count)
            for each, count in zip((self.rows, self.columns), self.grid, strict=True)
        ]
        # Of the gradient, which is as precise as the embedding.
        down, across = (
            pair_sums(each, count).to(embeddings)
            for each, count in zip((self.rows, self.columns), self.grid, strict=True)
        )
        self.pairs = down, across.mT.contiguous()
        self.near = around(self.grid[0], self.grid[1], embeddings.device).flatten()
        self._place_regions(numbered)

    def _place_regions(self, numbered: Any) -> None:
        of_map = numbered.index[:, 0]
        per_map = torch.bincount(of_map, minlength=self.maps)
        self.slots = int(per_map.max()) + 1
        within = torch.arange(len(of_map)) - (per_map.cumsum(0) - per_map)[of_map]
        self.slot = of_map * self.slots + within
        # The last slot of a map is for pixels without a region.
        slots = torch.cat([within.int(), torch.tensor([self.slots - 1], dtype=torch.int32)])
        slot = slots.index_select(0, numbered.row.view(-1)).view(self.maps, -1)
        # Memory: what is computed of a part stands beside all maps, and is no more than a quarter.
        most = min(WIDE // (self.cells * self.dim), PIXELS // slot.shape[1], -(-self.maps // 4))
        self.step = max(1, most)
        slot += torch.arange(self.maps, dtype=torch.int32)[:, None] % self.step * self.slots
        block = (self.rows.low[:, None] * self.grid[1] + self.columns.low).flatten().int()
        self.patches = [
            Patches(some, block, self.grid, self.slots) for some in slot.split(self.step)
        ]

    def parts(self, embeddings: Tensor, dtype: torch.dtype | None = None) -> Iterator[Part]:
        """All maps, some at a time, converted to another dtype if one is given."""
        for number, patches in enumerate(self.patches):
            some = embeddings[number * self.step : (number + 1) * self.step]
            yield Part(self, some.to(dtype or some.dtype), patches, number * self.step)


class Part:
    """Some of the maps.

    Args:
        whole: All of them.
        embeddings: (m, D, h', w'), theirs.
        patches: Theirs.
        first: Number of the first of them.

    Attributes:
        maps: Their numbers.
        rows: Their slots among those of all maps.
        grid: (m, h', w', D), their cells.
        cells: (m * h'*w', D), the same.
    """

    def __init__(self, whole: SmallMaps, embeddings: Tensor, patches: Patches, first: int) -> None:
        self.whole, self.patches = whole, patches
        self.grid = embeddings.permute(0, 2, 3, 1).contiguous()
        self.cells = self.grid.flatten(0, 2)
        self.maps = slice(first, first + len(embeddings))
        self.rows = slice(first * whole.slots, self.maps.stop * whole.slots)

    def slots(self) -> Tensor:
        """Slot (m * h*w,) of each pixel, counted within the part."""
        return self.patches.slot.index_select(0, self.patches.of_pixel)

    def sums(self, values: Tensor | None) -> Tensor:
        """Sums (E,) over pixels of shares of cells, times values (m, h*w)."""
        patches = self.patches
        found = self.whole.shares.new_zeros(len(patches.column))
        for entry, share in zip(patches.entries, self.whole.shares, strict=True):
            weights = share.expand(len(self.grid), -1) if values is None else share * values
            of_patches = torch.bincount(patches.of_pixel, weights.flatten(), len(patches.slot))
            found.index_add_(0, entry, of_patches.to(found))
        return found

    def matrix(self, entries: Tensor) -> Tensor:
        """Sparse (m * slots, m * h'*w')."""
        shape = (len(self.patches.bounds) - 1, len(self.cells))
        return _bounded_csr(self.patches.bounds, self.patches.column, entries, shape)

    def transposed(self, entries: Tensor, vectors: Tensor) -> Tensor:
        """The transposed matrix times vectors (m * slots, D): (m * h'*w', D)."""
        bounds, column = self.patches.bounds, self.patches.column
        rows = torch.arange(len(bounds) - 1, dtype=torch.int32)
        row = torch.repeat_interleave(rows, bounds.diff())
        # Radix sort: that is what NumPy takes for 16 bits.
        keys = column.numpy().astype(np.uint16 if len(self.cells) <= 2**16 else np.int32)
        order = torch.from_numpy(np.argsort(keys, kind="stable"))
        each = torch.bincount(column, minlength=len(self.cells))
        bounds = torch.cat([each.new_zeros(1), each.cumsum(0)]).int()
        shape = (len(self.cells), len(vectors))
        return _bounded_csr(bounds, row[order], entries[order], shape) @ vectors

    def products(self, vectors: Tensor) -> Tensor:
        """Inner products (E,) of vectors (m * slots, D) with the cells of their patches."""
        # Zeros: times nought, what memory holds might still be NaN.
        like = self.matrix(vectors.new_zeros(len(self.patches.column)))
        return torch.sparse.sampled_addmm(like, vectors, self.cells.mT, beta=0).values()

    def gathered(self, entries: Tensor) -> Tensor:
        """The transposed sum: of each pixel what its four cells' entries (E,) mix to, (m, h*w)."""
        mixed = entries.new_zeros(len(self.grid), self.whole.shares.shape[1])
        for entry, share in zip(self.patches.entries, self.whole.shares, strict=True):
            of_patches = entries.index_select(0, entry)
            of_pixels = of_patches.index_select(0, self.patches.of_pixel)
            mixed.addcmul_(of_pixels.view(mixed.shape), share)
        return mixed

    def squared_lengths(self) -> tuple[Tensor, Tensor]:
        """Squared length of each pixel's mix, and of the longest of its cells, (m, h*w) each."""
        squared, longest = self._mixed_squares()
        lost = places((squared < CANCELLED * longest).flatten())
        for part in lost.split(max(1, GATHERED // (4 * self.whole.dim))):
            squared.view(-1)[part] = self.mix(self.cells, part).square().sum(1)
        return squared, longest

    def _mixed_squares(self) -> tuple[Tensor, Tensor]:
        squares, right, down, across = self._products_of_neighbors()
        (ends_down, both_down), (ends, both) = self.whole.mixing
        squared = ends_down.t() @ (squares @ ends + 2 * right @ both)
        squared += 2 * both_down.t() @ (down @ ends + across @ both)
        longest = torch.maximum(squares, _next(squares, 2))
        longest = torch.maximum(longest, _next(longest, 1))
        longest = longest.index_select(2, self.whole.columns.low)
        longest = longest.index_select(1, self.whole.rows.low)
        return squared.flatten(1), longest.flatten(1)

    def _products_of_neighbors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of cells with themselves, the next, that below, and both diagonals: (m, h', w') each.

        Zero where there is no next cell or none below.
        """
        count, width = len(self.cells), self.whole.grid[1]
        steps = torch.tensor([0, 1, width - 1, width, width + 1], dtype=torch.int32)
        place = torch.arange(count, dtype=torch.int32)
        # Beyond a border the neighbor is some cell or other, and left out below.
        column = (place[:, None] + steps).clamp_(max=count - 1).flatten()
        bounds = torch.arange(0, 5 * count + 1, 5, dtype=torch.int32)
        # Sampled products: PyTorch wants no more of them than a matrix has places.
        among = self.cells if count >= 5 else F.pad(self.cells, (0, 0, 0, 5))
        like = _bounded_csr(bounds, column, self.cells.new_zeros(5 * count), (count, len(among)))
        found = torch.sparse.sampled_addmm(like, self.cells, among.mT, beta=0).values()
        found = found.view(*self.grid.shape[:3], 5)
        right, down, across = (torch.zeros_like(found[..., 0]) for _ in range(3))
        right[:, :, :-1] = found[:, :, :-1, 1]
        down[:, :-1] = found[:, :-1, :, 3]
        across[:, :-1, :-1] = found[:, :-1, :-1, 4] + found[:, :-1, 1:, 2]
        return found[..., 0].contiguous(), right, down, across

    def mixed(self, values: Tensor) -> Tensor:
        """What values of cells (m, h', w') mix to at each pixel, (m, h, w)."""
        y, x = self.whole.rows, self.whole.columns
        across, down = x.share.to(values), y.share.to(values)[:, None]
        left, right = (values.index_select(2, index) for index in (x.low, x.high))
        rows = torch.lerp(left, right, across)
        above, below = (rows.index_select(1, index) for index in (y.low, y.high))
        return torch.lerp(above, below, down)

    def mix(self, cells: Tensor, pixels: Tensor) -> Tensor:
        """The mixes (n, C) of some pixels, counted over the maps, of cells (m * h'*w', C)."""
        x, y = self.whole.columns, self.whole.rows
        width = len(x.low)
        line, column = pixels // width, pixels % width
        first, row = line // len(y.low) * self.whole.cells, line % len(y.low)
        across, down = x.share[column, None].to(cells), y.share[row, None].to(cells)
        above, below = (
            torch.lerp(
                cells.index_select(0, begin + x.low[column]),
                cells.index_select(0, begin + x.high[column]),
                across,
            )
            for begin in (first + index[row] * self.whole.grid[1] for index in (y.low, y.high))
        )
        return torch.lerp(above, below, down)

    def add_at(self, of_cells: Tensor, pixels: Tensor, values: Tensor) -> None:
        """Adds values (n, D) of some pixels to their four cells (m * h'*w', D), in place."""
        each = self.whole.shares.shape[1]
        entries = self.patches.entries.index_select(1, self.patches.of_pixel[pixels])
        cells = self.patches.column[entries.long()]
        for cell, share in zip(cells, self.whole.shares, strict=True):
            of_cells.index_add_(0, cell, share[pixels % each].to(values).unsqueeze(1) * values)

    def subtract_stencil(self, of_cells: Tensor, factor: Tensor) -> None:
        """As `vice.regions.fragments.OneMap.subtract_stencil`, of (m * h'*w', D) in place."""
        (height, width), (down, across) = self.whole.grid, self.whole.pairs
        sums = down @ factor.to(down).view(-1, *self.whole.size) @ across
        values = sums.view(-1, 3, height, 3, width).permute(0, 2, 4, 1, 3).reshape(-1).to(of_cells)
        column = self.whole.near + torch.arange(len(self.grid))[:, None] * self.whole.cells
        rows = len(self.cells)
        matrix = _bounded_csr(
            torch.arange(0, 9 * rows + 1, 9), column.flatten(), values, (rows, rows)
        )
        of_cells.addmm_(matrix, self.cells, alpha=-1)


def places(mask: Tensor) -> Tensor:
    """Where a flat mask is set, int64, ascending: NumPy looks at eight of its bytes at a time."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))


def inverse_lengths(squares: Tensor, longest: Tensor) -> Tensor:
    """1 / |z| of each pixel, as `vice.regions.fragments.OneMap.inverse_lengths`.

    Args:
        squares: Squared length of each mix.
        longest: Of the longest of its cells.
    """
    noise = (NOISE * torch.finfo(squares.dtype).eps) ** 2
    inverse = squares.clamp(min=EPSILON**2).rsqrt_()
    return inverse.masked_fill_(squares < noise * longest, 0)


def _mixing(along: Axis, cells: int) -> tuple[Tensor, Tensor]:
    """What cells, and products of neighbours, give to the squares of pixels: (cells, n) each."""
    near, both, far = pairs(along.share)
    pixel = torch.arange(len(along.low))
    ends, middle = along.share.new_zeros(2, cells, len(pixel))
    ends[along.high, pixel] = far
    ends[along.low, pixel] += near
    middle[along.low, pixel] = both
    return ends, middle


def _next(values: Tensor, dim: int) -> Tensor:
    last = values.narrow(dim, values.shape[dim] - 1, 1)
    return torch.cat([values.narrow(dim, 1, values.shape[dim] - 1), last], dim)
