"""Fragments: pixels of one region between the same four cells, and sums of their bilinear weights.

All that is as wide as the embedding happens for one map at the stride of its cells; pixels have a
handful of numbers each. `vice.regions.means` tells why that is enough.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vice.regions.bilinear import around, axis, corner_weights, pair_sums, pairs

EPSILON = 1e-12
#: A mix this much shorter (squared) than its longest cell is computed outright.
CANCELLED = 0.05
#: A mix this many units of rounding long has no direction.
NOISE = 8
#: Most elements of D wide rows that are gathered at a time: an eighth of a map, between these.
LEAST_GATHERED, GATHERED = 2**15, 2**19
#: Most elements of a strip of pixels, where every pixel of a map is mixed.
STRIP = 2**16


class Patches(NamedTuple):
    """The pixels of one map that have a region, gathered into patches.

    Attributes:
        of_pixel: int16 or int32 (h*w,), patch of each pixel; -1 where there is no region.
        row: int32 (Q,), region row of each patch, ascending, counted over all maps.
        block: int32 (Q,), its upper left cell.
        rows: Rows of the map's regions.
    """

    of_pixel: Tensor
    row: Tensor
    block: Tensor
    rows: slice


def find_patches(row: Tensor, rows: slice, block: Tensor, cells: int) -> Patches:
    """Gathers the pixels of one map that have a region into patches.

    Args:
        row: int32 (h*w,), region row of each pixel, beyond all rows for none.
        rows: Rows of the map's regions.
        block: int64 (h*w,), upper left cell of each pixel.
        cells: Cells of the map.
    """
    inside = ((row >= rows.start) & (row < rows.stop)).nonzero().squeeze(1)
    key = row[inside].long() * cells + block[inside]
    key, patch = torch.unique(key, return_inverse=True)
    # Kept for the backward pass, so of the smallest dtype that holds the numbers.
    dtype = torch.int16 if len(key) < 2**15 else torch.int32
    of_pixel = torch.full(row.shape, -1, dtype=dtype, device=row.device)
    of_pixel[inside] = patch.to(dtype)
    return Patches(of_pixel, (key // cells).int(), (key % cells).int(), rows)


class Layout:
    """How the pixels of all maps lie between cells and in regions.

    Args:
        embeddings: (B, D, h', w').
        numbered: Regions as `vice.regions.index_regions` numbers them.
        align_corners: As in `torch.nn.functional.interpolate`.
    """

    def __init__(self, embeddings: Tensor, numbered: Any, align_corners: bool) -> None:
        maps, _, height, width = embeddings.shape
        self.rows = axis(numbered.size[0], height, embeddings, align_corners=align_corners)
        self.columns = axis(numbered.size[1], width, embeddings, align_corners=align_corners)
        block = (self.rows.low[:, None] * width + self.columns.low).flatten()
        self.pairs = pair_sums(self.rows, height), pair_sums(self.columns, width).mT
        first = torch.arange(maps + 1, device=block.device)
        bounds = torch.searchsorted(numbered.index[:, 0].contiguous(), first).tolist()
        self.patches = [
            find_patches(row, slice(bounds[number], bounds[number + 1]), block, height * width)
            for number, row in enumerate(numbered.row.view(maps, -1))
        ]

    def maps(self, embeddings: Tensor) -> Iterator[tuple[int, OneMap]]:
        """Number and content of each map that has regions."""
        for number, patches in enumerate(self.patches):
            if patches.rows.start < patches.rows.stop:
                yield number, OneMap(embeddings[number], patches, self)


class OneMap:
    """One map's cells, pixels and patches, and what is done with them.

    Attributes:
        shape: (D, h', w').
        pixels: h * w.
        cells: (h'*w', D).
        rows: Rows of the map's regions.
        inside: int64 (P,), the pixels that have a region, in scan order.
        of_pixel: int32 (P,), patch of each of them.
        weights: (P, 4), their shares of the four cells around them.
        row: int64 (Q,), region of each patch, counted within the map.
        block: int64 (Q,), upper left cell of each patch.
    """

    def __init__(self, embedding: Tensor, patches: Patches, layout: Layout) -> None:
        self.rows = patches.rows
        self.shape = embedding.shape
        self.width = embedding.shape[2]
        self.pixels = len(patches.of_pixel)
        self.cells = embedding.permute(1, 2, 0).reshape(-1, embedding.shape[0])
        self.row = patches.row.long() - patches.rows.start
        self.block = patches.block.long()
        self.inside = (patches.of_pixel >= 0).nonzero().squeeze(1)
        self.of_pixel = patches.of_pixel[self.inside].int()
        self._layout = layout
        # Weights are computed for each map: kept, those of all pixels would be held beside these.
        weights = corner_weights(layout.rows.share, layout.columns.share)
        self.weights = weights.index_select(0, self.inside)

    def pixel_rows(self) -> Tensor:
        """Region (P,) of each pixel, counted within the map."""
        return self.row[self.of_pixel]

    def chunks(self, places: Tensor, width: int) -> tuple[Tensor, ...]:
        """Splits places whose four cells, ``width`` numbers each, are gathered at a time."""
        most = min(GATHERED, max(LEAST_GATHERED, self.cells.numel() // 8))
        return places.split(max(1, most // (4 * width)))

    def mix(self, table: Tensor, pixels: Tensor) -> Tensor:
        """Rows of a table of the cells (h'*w', n), mixed for some pixels: (len(pixels), n)."""
        corners = self.corners(self.block[self.of_pixel[pixels]])
        return torch.einsum("pt,ptd->pd", self.weights[pixels], table[corners])

    def strips(self, table: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Rows of a table of the cells (h'*w', n), mixed for all pixels, in region or not.

        Mixing down and then across reads each cell once a row and once a column, in order, where
        `mix` gathers four of them for each pixel.

        Yields:
            Places of some pixels in scan order, and their mixes (pixels, n).
        """
        grid = table.view(-1, self.width, table.shape[1])
        y, x = self._layout.rows, self._layout.columns
        width = len(x.low)
        step = max(1, STRIP // (width * table.shape[1]))
        for first in range(0, len(y.low), step):
            some = slice(first, first + step)
            above, below = (grid.index_select(0, index[some]) for index in (y.low, y.high))
            down = torch.lerp(above, below, y.share[some, None, None])
            left, right = (down.index_select(1, index) for index in (x.low, x.high))
            mixed = torch.lerp(left, right, x.share[:, None]).flatten(0, 1)
            yield slice(first * width, first * width + len(mixed)), mixed

    def corners(self, block: Tensor) -> Tensor:
        """The four cells (N, 4) around pixels whose upper left cell is given (N,)."""
        height = self.cells.shape[0] // self.width
        y, x = block // self.width, block % self.width
        low = (y + 1).clamp(max=height - 1) * self.width
        right = (x + 1).clamp(max=self.width - 1)
        return torch.stack([block, y * self.width + right, low + x, low + right], 1)

    def patch_sum(self, values: Tensor) -> Tensor:
        """Sums values of pixels (P, n) over each patch."""
        total = values.new_zeros(self.row.numel(), values.shape[1])
        return total.index_add_(0, self.of_pixel, values)

    def times_cells(self, weights: Tensor) -> Tensor:
        """Sparse matrix of the patches' weights (Q, 4) times the cells: (regions, D)."""
        matrix = _matrix(
            self.row.repeat_interleave(4),
            self.corners(self.block).flatten(),
            weights.flatten(),
            (self.rows.stop - self.rows.start, self.cells.shape[0]),
        )
        return matrix @ self.cells

    def transposed(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """The transposed matrix times the gradient (regions, D) of the map's sums: (cells, D)."""
        cell, order = self.corners(self.block).flatten().sort(stable=True)
        matrix = _matrix(
            cell,
            self.row.repeat_interleave(4)[order],
            weights.flatten()[order],
            (self.cells.shape[0], self.rows.stop - self.rows.start),
        )
        return matrix @ gradient

    def dots(self, gradient: Tensor) -> Tensor:
        """Inner products (Q, 4) of each patch's cells with the gradient of its region."""
        products = gradient.new_zeros(4, len(self.row))
        for values, column in zip(products, self.corners(self.block).t().contiguous(), strict=True):
            asked = _csr(self.row, column, values, (len(gradient), len(self.cells)))
            torch.sparse.sampled_addmm(asked, gradient, self.cells.t(), beta=0, out=asked)
            values.copy_(asked.values())
        return products.t()

    def inverse_lengths(self) -> Tensor:
        """1 / |z| of each pixel, at most 1 / epsilon; 0 where z is nothing but rounding."""
        squared, longest = self._squared_lengths()
        lost = (squared < CANCELLED * longest).nonzero().squeeze(1)
        for part in self.chunks(lost, self.cells.shape[1]):
            squared[part] = self.mix(self.cells, part).square().sum(1)
        inverse = 1 / squared.sqrt().clamp(min=EPSILON)
        # Cancellation: what remains of cells that cancel to the last digit is rounding.
        noise = (NOISE * torch.finfo(squared.dtype).eps) ** 2
        return torch.where(squared < noise * longest, 0, inverse)

    def _squared_lengths(self) -> tuple[Tensor, Tensor]:
        """Squared length of each mix, and of the longest of its cells, (P,) each.

        Both are mixed along the rows of cells first, and then down the columns of pixels.
        """
        squares, right, down, across = self._products()
        x, y = self._layout.columns, self._layout.rows
        first, second = squares.index_select(1, x.low), squares.index_select(1, x.high)
        near, both, far = pairs(x.share)
        along = near * first + far * second + 2 * both * right.index_select(1, x.low)
        below = near * down.index_select(1, x.low) + far * down.index_select(1, x.high)
        below += both * across.index_select(1, x.low)
        longest = torch.maximum(first, second)
        near, both, far = (pair.unsqueeze(1) for pair in pairs(y.share))
        squared = near * along.index_select(0, y.low) + far * along.index_select(0, y.high)
        squared += 2 * both * below.index_select(0, y.low)
        longest = torch.maximum(longest.index_select(0, y.low), longest.index_select(0, y.high))
        return squared.flatten()[self.inside], longest.flatten()[self.inside]

    def _products(self) -> tuple[Tensor, ...]:
        """Inner products (h', w') of cells with themselves, to the right, down and across."""
        grid = self.cells.view(-1, self.width, self.cells.shape[1])
        squares = _dot(grid, grid)
        right = _dot(grid, _shift(grid, 1))
        below = _shift(grid, 0)
        down, falling = _dot(grid, below), _dot(grid, _shift(below, 1))
        rising = _dot(_shift(grid, 1), below)
        return squares, right, down, falling + rising

    def subtract_stencil(self, of_cells: Tensor, factor: Tensor) -> None:
        """Subtracts sum_p factor_p w_pt z_p from the gradient of each pixel's cells, in place.

        A cell gets something of itself and of the eight around it: of each a sum over pixels of
        a number down times one across, so that all sums are two products of matrices.
        """
        down, across = self._layout.pairs
        grid = factor.new_zeros(self.pixels).index_copy_(0, self.inside, factor)
        sums = (down @ grid.view(down.shape[1], -1) @ across).view(3, -1, 3, self.width)
        near = around(sums.shape[1], self.width, sums.device)
        matrix = _matrix(
            torch.arange(len(near), device=near.device).repeat_interleave(9),
            near.flatten(),
            sums.permute(1, 3, 0, 2).flatten(),
            (len(near), len(near)),
        )
        of_cells.addmm_(matrix, self.cells, alpha=-1)


def _matrix(row: Tensor, column: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A matrix from entries sorted by row, those of one place added up: sparse if that is smaller.

    cuSPARSE takes no more entries than the matrix has places.
    """
    height, width = shape
    if len(values) <= height * width:
        return _csr(row, column, values, shape)
    dense = values.new_zeros(height * width)
    return dense.index_add_(0, row * width + column, values).view(shape)


def _csr(row: Tensor, column: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix from entries sorted by row."""
    bounds = torch.searchsorted(row, torch.arange(shape[0] + 1, device=row.device))
    return _bounded_csr(bounds, column, values, shape)


def _bounded_csr(bounds: Tensor, column: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix from entries and where those of each row begin."""
    with warnings.catch_warnings():
        # "Sparse CSR tensor support is in beta": products with dense matrices are what it is for.
        warnings.filterwarnings("ignore", message="Sparse CSR")
        # Invariant checks: PyTorch 2.11 warns even where they are switched off by name.
        warnings.filterwarnings("ignore", message="Sparse invariant checks")
        return torch.sparse_csr_tensor(bounds, column, values, shape, check_invariants=False)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Inner products over the last axis."""
    return torch.einsum("yxd,yxd->yx", first, second)


def _shift(grid: Tensor, dim: int) -> Tensor:
    """The next cell along an axis; the last one stays."""
    last = grid.narrow(dim, grid.shape[dim] - 1, 1)
    return torch.cat([grid.narrow(dim, 1, grid.shape[dim] - 1), last], dim)
