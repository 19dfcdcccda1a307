"""Region means of many small maps at once, on a CPU.

`vice.regions.means` goes map by map, with matrices that have an entry for each patch. Where maps
are small, what takes long is not that arithmetic but calling dozens of operators for each map. Here
the matrices (regions x cells) of several maps are dense and stand side by side, sums over pixels
are histograms, and inner products are mixed by products with the bilinear weights of an axis.
Values and gradient are the same up to rounding; `fits` says where the matrices are small enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vice.regions.bilinear import Axis, around, axis, corner_weights, pair_sums, pairs
from vice.regions.fragments import CANCELLED, EPSILON, GATHERED, NOISE, _bounded_csr

#: Most entries of a dense matrix, in pixels of its map.
ENTRIES = 8
#: Most elements of the D wide rows, and most pixels, of the maps that are taken at a time.
WIDE, PIXELS = 2**18, 2**17
#: Most entries of all matrices that are kept for the backward pass, and not made again.
KEPT = 2**19


def fits(embeddings: Tensor, numbered: Any, entries: int = ENTRIES) -> bool:
    """Whether maps are on a CPU, and small against their number of pixels."""
    if embeddings.device.type != "cpu" or not numbered.counts.numel():
        return False
    most = int(torch.bincount(numbered.index[:, 0]).max()) + 1
    cells = embeddings.shape[2] * embeddings.shape[3]
    return most * cells <= entries * numbered.size[0] * numbered.size[1]


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
        entry: int32 (B, h*w), place of each pixel's region and upper left cell in the matrices
            (slots, h'*w') of all maps.
    """

    def __init__(
        self,
        embeddings: Tensor,
        numbered: Any,
        align_corners: bool,
        dtype: torch.dtype | None = None,
    ) -> None:
        maps, self.dim, *self.grid = embeddings.shape
        self.size = numbered.size
        self.cells = self.grid[0] * self.grid[1]
        like = embeddings.new_empty(0, dtype=dtype)
        self.rows = axis(self.size[0], self.grid[0], like, align_corners=align_corners)
        self.columns = axis(self.size[1], self.grid[1], like, align_corners=align_corners)
        of_map = numbered.index[:, 0]
        per_map = torch.bincount(of_map, minlength=maps)
        self.slots = int(per_map.max()) + 1
        within = torch.arange(len(of_map)) - (per_map.cumsum(0) - per_map)[of_map]
        self.slot = of_map * self.slots + within
        # The last slot of a map is for pixels without a region.
        none = torch.arange(1, maps + 1, dtype=torch.int32) * self.slots - 1
        slots = torch.cat([self.slot.int(), none.new_zeros(1)])
        row = numbered.row.view(maps, -1)
        slot = torch.where(row == len(of_map), none[:, None], slots[row])
        block = self.rows.low[:, None] * self.grid[1] + self.columns.low
        self.entry = slot.mul_(self.cells).add_(block.flatten().int())
        self.shares = corner_weights(self.rows.share, self.columns.share).t().contiguous()
        # Beyond the last row or column of cells weights are zero, wherever that entry lies.
        self.offsets = torch.tensor([0, 1, self.grid[1], self.grid[1] + 1], dtype=torch.int32)
        self.step = max(1, min(WIDE // (self.cells * self.dim), PIXELS // row.shape[1]))
        self.maps = maps
        self.mixing = [
            _mixing(each, count)
            for each, count in zip((self.rows, self.columns), self.grid, strict=True)
        ]
        self.pairs = (
            pair_sums(self.rows, self.grid[0]),
            pair_sums(self.columns, self.grid[1]).mT.contiguous(),
        )
        self.near = around(self.grid[0], self.grid[1], embeddings.device).flatten()

    def parts(self, embeddings: Tensor, dtype: torch.dtype | None = None) -> Iterator[Part]:
        """All maps, some at a time, converted to another dtype if one is given."""
        for first in range(0, self.maps, self.step):
            some = embeddings[first : first + self.step]
            yield Part(self, some.to(dtype or some.dtype), first)


class Part:
    """Some of the maps.

    Args:
        whole: All of them.
        embeddings: (m, D, h', w'), theirs.
        first: Number of the first of them.

    Attributes:
        maps: Their numbers.
        rows: Their slots among those of all maps.
        grid: (m, h', w', D), their cells.
    """

    def __init__(self, whole: SmallMaps, embeddings: Tensor, first: int) -> None:
        self.whole = whole
        self.grid = embeddings.permute(0, 2, 3, 1).contiguous()
        self.cells = self.grid.flatten(1, 2)
        self.maps = slice(first, first + len(embeddings))
        self.rows = slice(first * whole.slots, self.maps.stop * whole.slots)
        begin = first * whole.slots * whole.cells
        # (4, m * h * w): the four cells around each pixel.
        self.entries = (whole.entry[self.maps].flatten() - begin) + whole.offsets[:, None]

    def matrix(self, values: Tensor | None) -> Tensor:
        """Sums over pixels of shares of cells, times values (m, h*w): (m, slots, h'*w')."""
        shares = self.whole.shares.unsqueeze(1)
        weights = shares.expand(-1, len(self.grid), -1) if values is None else shares * values
        shape = (len(self.grid), self.whole.slots, self.whole.cells)
        entries = shape[0] * shape[1] * shape[2]
        sums = torch.bincount(self.entries.view(-1), weights.reshape(-1), entries)
        return sums[:entries].view(shape)

    def slots(self) -> Tensor:
        """Slot (m * h*w,) of each pixel, counted within the part."""
        return (self.entries[0] // self.whole.cells).long()

    def gathered(self, matrix: Tensor) -> Tensor:
        """The transposed sum: of each pixel the entries (m, slots, h'w') of its four cells."""
        flat = torch.cat([matrix.flatten(), matrix.new_zeros(self.whole.grid[1] + 1)])
        mixed = matrix.new_zeros(len(self.grid), self.whole.shares.shape[1])
        for entry, share in zip(self.entries, self.whole.shares, strict=True):
            mixed.addcmul_(flat.index_select(0, entry).view(mixed.shape), share)
        return mixed

    def squared_lengths(self) -> tuple[Tensor, Tensor]:
        """Squared length of each pixel's mix, and of the longest of its cells, (m, h*w) each."""
        squared, longest = self._mixed_squares()
        lost = (squared < CANCELLED * longest).flatten().nonzero().squeeze(1)
        for part in lost.split(max(1, GATHERED // (4 * self.whole.dim))):
            squared.view(-1)[part] = self.mix(part).square().sum(1)
        return squared, longest

    def _mixed_squares(self) -> tuple[Tensor, Tensor]:
        grid = self.grid
        # A row of cells with itself and with the next one: neighbours are on the diagonals.
        along, below = grid @ grid.mT, grid[:, :-1] @ grid[:, 1:].mT
        squares = along.diagonal(dim1=2, dim2=3)
        right, down, across = (torch.zeros_like(squares) for _ in range(3))
        right[:, :, :-1] = along.diagonal(1, 2, 3)
        down[:, :-1] = below.diagonal(dim1=2, dim2=3)
        across[:, :-1, :-1] = below.diagonal(1, 2, 3) + below.diagonal(-1, 2, 3)
        (ends_down, both_down), (ends, both) = self.whole.mixing
        squared = ends_down.t() @ (squares @ ends + 2 * right @ both)
        squared += 2 * both_down.t() @ (down @ ends + across @ both)
        longest = torch.maximum(squares, _next(squares, 2))
        longest = torch.maximum(longest, _next(longest, 1))
        longest = longest.index_select(2, self.whole.columns.low)
        longest = longest.index_select(1, self.whole.rows.low)
        return squared.flatten(1), longest.flatten(1)

    def mix(self, pixels: Tensor) -> Tensor:
        """The mixes (n, D) of some pixels, counted over the maps."""
        x, y = self.whole.columns, self.whole.rows
        each = len(x.low) * len(y.low)
        number, pixel = pixels // each, pixels % each
        row, column = pixel // len(x.low), pixel % len(x.low)
        share, down = x.share[column, None], y.share[row, None]
        above, below = (
            torch.lerp(
                self.grid[number, index[row], x.low[column]],
                self.grid[number, index[row], x.high[column]],
                share,
            )
            for index in (y.low, y.high)
        )
        return torch.lerp(above, below, down)

    def add_at(self, of_cells: Tensor, pixels: Tensor, values: Tensor) -> None:
        """Adds values (n, D) of some pixels to their four cells (m, h'*w', D), in place."""
        each = self.whole.shares.shape[1]
        first = pixels // each * self.whole.cells
        flat = of_cells.flatten(0, 1)
        # Upper left cell: an entry without its slot. Beyond the last cell the share is zero.
        block = self.entries[0][pixels].long() % self.whole.cells
        for offset, share in zip(self.whole.offsets.tolist(), self.whole.shares, strict=True):
            cell = first + (block + offset).clamp(max=self.whole.cells - 1)
            flat.index_add_(0, cell, share[pixels % each].to(values).unsqueeze(1) * values)

    def subtract_stencil(self, of_cells: Tensor, factor: Tensor) -> None:
        """As `vice.regions.fragments.OneMap.subtract_stencil`, of (m, h'w', D) in place."""
        (height, width), (down, across) = self.whole.grid, self.whole.pairs
        sums = down @ factor.to(down).view(-1, *self.whole.size) @ across
        values = sums.view(-1, 3, height, 3, width).permute(0, 2, 4, 1, 3).reshape(-1).to(of_cells)
        column = self.whole.near + torch.arange(len(self.grid))[:, None] * self.whole.cells
        rows = self.grid.numel() // self.whole.dim
        matrix = _bounded_csr(
            torch.arange(0, 9 * rows + 1, 9), column.flatten(), values, (rows, rows)
        )
        of_cells.flatten(0, 1).addmm_(matrix, self.cells.flatten(0, 1), alpha=-1)


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


class PooledSmallMeans(torch.autograd.Function):
    """Region means (R, D), as `vice.regions.means.PooledMeans`."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, embeddings: Tensor, numbered: Any, options: dict[str, bool]
    ) -> Tensor:
        """Products of matrices, for some maps at a time."""
        maps = SmallMaps(embeddings, numbered, options["align_corners"])
        sums = embeddings.new_empty(maps.maps, maps.slots, maps.dim)
        keeps = sums.shape[0] * sums.shape[1] * maps.cells <= KEPT
        lengths: list[Tensor | None] = []
        matrices: list[Tensor | None] = []
        for part in maps.parts(embeddings):
            squares = part.squared_lengths() if options["normalize"] else None
            lengths.append(None if squares is None else inverse_lengths(*squares))
            matrix = part.matrix(lengths[-1])
            torch.bmm(matrix, part.cells, out=sums[part.maps])
            matrices.append(matrix if keeps else None)
        means = sums.flatten(0, 1).index_select(0, maps.slot)
        means /= numbered.counts.unsqueeze(1)
        ctx.save_for_backward(embeddings, numbered.counts)
        ctx.all_maps, ctx.lengths, ctx.matrices = maps, lengths, matrices
        return means

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Applies the transposed matrices and the stencil."""
        embeddings, counts = ctx.saved_tensors
        maps: SmallMaps = ctx.all_maps
        with torch.autocast("cpu", enabled=False):
            of_slots = gradient.new_zeros(maps.maps * maps.slots, maps.dim)
            of_slots[maps.slot] = gradient / counts[:, None]
            of_slots = of_slots.view(maps.maps, maps.slots, maps.dim)
            found = torch.empty_like(embeddings)
            kept = zip(ctx.lengths, ctx.matrices, strict=True)
            for part, (lengths, matrix) in zip(maps.parts(embeddings), kept, strict=True):
                own = of_slots[part.maps]
                of_cells = (part.matrix(lengths) if matrix is None else matrix).mT @ own
                if lengths is not None:
                    along = part.gathered(own @ part.cells.mT)
                    # Epsilon: shorter vectors are divided by it, so their length has no gradient.
                    factor = torch.where(lengths < 1 / EPSILON, lengths**3 * along, 0)
                    part.subtract_stencil(of_cells, factor)
                found[part.maps] = of_cells.view(part.grid.shape).permute(0, 3, 1, 2)
        return found, None, None
