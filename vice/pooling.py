"""Region means of the upsampled, pixel-wise normalised embedding without upsampling it.

The mean of unit pixel vectors over a region (ViCE (BMVC) section 3.3) reads as if every pixel's
vector had to exist. It need not. A pixel is a bilinear mix z = sum_t w_t Y_t of the four cells
around it, so

- its length follows from inner products of neighbouring cells: |z|^2 = sum_tu w_t w_u <Y_t, Y_u>,
  five per cell instead of D per pixel;
- the mean over region r is a sparse matrix times Y, sum_p sum_t (w_pt / (|z_p| n_r)) Y_t, and its
  entries are shared by all pixels of one region between the same four cells (a *patch*);
- the gradient is the transposed matrix times that of the means, less a symmetric 4x4 stencil
  sum_p (w_pt w_pu <z_p, g> / |z_p|^3) applied to the four cells.

Numbers per pixel are a handful of scalars, and all that is D wide happens at the stride of Y, one
map at a time, so memory stays at that of Y. Where the four cells nearly cancel, the length taken
from inner products would lose digits; those pixels are mixed outright.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-12
#: A mix this much shorter (squared) than its longest cell is computed outright.
CANCELLED = 0.05
#: A mix this many units of rounding long has no direction.
NOISE = 8
#: Most elements of D wide rows that are gathered at a time.
GATHERED = 2**21


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


class Patches(NamedTuple):
    """Pixels of one region between the same four cells, gathered into patches.

    Attributes:
        inside: int64 (P,), the pixels that have a region, counted over all maps.
        of_pixel: int64 (P,), patch of each of them.
        row: int64 (Q,), region row of each patch, ascending.
        block: int64 (Q,), its upper left cell, counted over all maps.
        bounds: for each map, where its patches begin; one more at the end.
        pixel_bounds: for each map, where its pixels begin; one more at the end.
        row_bounds: for each map, where its regions begin; one more at the end.
    """

    inside: Tensor
    of_pixel: Tensor
    row: Tensor
    block: Tensor
    bounds: list[int]
    pixel_bounds: list[int]
    row_bounds: list[int]


def axis(pixels: int, cells: int, like: Tensor, *, align_corners: bool = False) -> Axis:
    """Bilinear weights of one axis, as `torch.nn.functional.interpolate` places them.

    Args:
        pixels: Number of pixels.
        cells: Number of cells.
        like: Gives dtype and device of the weights.
        align_corners: As in `torch.nn.functional.interpolate`.
    """
    place = torch.arange(pixels, device=like.device, dtype=torch.float64)
    if align_corners:
        place = place * ((cells - 1) / (pixels - 1) if pixels > 1 else 0.0)
    else:
        place = ((place + 0.5) * (cells / pixels) - 0.5).clamp(min=0)
    low = place.floor().long().clamp(max=cells - 1)
    share = (place - low).clamp(max=1).to(like.dtype)
    return Axis(low, (low + 1).clamp(max=cells - 1), share)


def find_patches(row: Tensor, num_rows: int, block: Tensor, sizes: tuple[int, int, int]) -> Patches:
    """Gathers the pixels that have a region into patches.

    Args:
        row: int64 (B*h*w,), region row of each pixel, ``num_rows`` for none; rows of one map come
            before those of the next.
        num_rows: Number of regions R.
        block: int64 (h*w,), upper left cell of each pixel within its map.
        sizes: Number of maps, pixels a map and cells a map.
    """
    maps, pixels, cells = sizes
    inside = (row < num_rows).nonzero().squeeze(1)
    of_map = inside // pixels
    at = block[inside - of_map * pixels]
    key, of_pixel = torch.unique(row[inside] * cells + at, return_inverse=True)
    first = torch.arange(maps + 1, device=row.device)
    patch_row = key // cells
    map_of_row = torch.full((num_rows + 1,), maps, dtype=torch.long, device=row.device)
    map_of_row[row[inside]] = of_map
    map_of_row = map_of_row[:num_rows]
    return Patches(
        inside,
        of_pixel,
        patch_row,
        key - patch_row * cells,
        torch.searchsorted(map_of_row[patch_row], first).tolist(),
        torch.searchsorted(of_map, first).tolist(),
        torch.searchsorted(map_of_row, first).tolist(),
    )


class PooledMeans(torch.autograd.Function):
    """Region means (R, D) of an embedding (B, D, h', w'), see the module's text."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, embeddings: Tensor, numbered: Any, size: tuple[int, int], options: dict[str, bool]
    ) -> Tensor:
        """Sums over the patches of each map in turn."""
        maps, dim, height, width = embeddings.shape
        rows = axis(size[0], height, embeddings, align_corners=options["align_corners"])
        columns = axis(size[1], width, embeddings, align_corners=options["align_corners"])
        block = (rows.low[:, None] * width + columns.low).flatten()
        num_rows = numbered.counts.numel()
        sizes = (maps, size[0] * size[1], height * width)
        patches = find_patches(numbered.row, num_rows, block, sizes)
        means = embeddings.new_zeros(num_rows, dim)
        inverse = embeddings.new_ones(patches.inside.numel())
        for number in range(maps):
            one = _OneMap(number, embeddings[number], patches, rows, columns, size)
            if one.is_empty:
                continue
            if options["normalize"]:
                inverse[one.pixels] = one.inverse_lengths()
            weights = one.patch_sum(inverse[one.pixels, None] * one.weights)
            means[one.rows] = one.times_cells(weights)
        means /= numbered.counts.unsqueeze(1)
        ctx.save_for_backward(embeddings, inverse, numbered.counts)
        ctx.rest = (patches, rows, columns, size, options)
        return means

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Applies the transposed matrix and the stencil, map by map."""
        with torch.autocast(gradient.device.type, enabled=False):
            return _gradient(ctx, gradient), None, None, None


def _gradient(ctx: Any, gradient: Tensor) -> Tensor:
    embeddings, inverse, counts = ctx.saved_tensors
    patches, rows, columns, size, options = ctx.rest
    gradient = gradient / counts.unsqueeze(1)
    found = torch.zeros_like(embeddings)
    for number in range(embeddings.shape[0]):
        one = _OneMap(number, embeddings[number], patches, rows, columns, size)
        if one.is_empty:
            continue
        lengths = inverse[one.pixels]
        weights = one.patch_sum(lengths[:, None] * one.weights)
        of_cells = one.transposed(weights, gradient)
        if options["normalize"]:
            along = (one.weights * one.dots(gradient)[one.of_pixel]).sum(1)
            # Vectors shorter than epsilon are divided by it: no length, no stencil.
            factor = torch.where(lengths < 1 / EPSILON, lengths**3 * along, 0)
            one.subtract_stencil(of_cells, factor)
        found[number] = of_cells.T.view_as(found[number])
    return found


class _OneMap:
    """One map's cells, pixels and patches, and what is done with them."""

    def __init__(
        self,
        number: int,
        embedding: Tensor,
        patches: Patches,
        rows: Axis,
        columns: Axis,
        size: tuple[int, int],
    ) -> None:
        begin, end = patches.bounds[number : number + 2]
        first, last = patches.pixel_bounds[number : number + 2]
        top, bottom = patches.row_bounds[number : number + 2]
        self.is_empty = begin == end
        self.pixels, self.rows = slice(first, last), slice(top, bottom)
        self.width = embedding.shape[2]
        self.cells = embedding.permute(1, 2, 0).reshape(-1, embedding.shape[0])
        self.row = patches.row[begin:end] - top
        self.block = patches.block[begin:end]
        self.of_pixel = patches.of_pixel[first:last] - begin
        place = patches.inside[first:last] - number * size[0] * size[1]
        self.y, self.x = place // size[1], place % size[1]
        self._rows, self._columns = rows, columns
        down, right = rows.share[self.y], columns.share[self.x]
        self.weights = torch.stack(
            [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], 1
        )

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
        matrix = _csr(
            self.row.repeat_interleave(4),
            self.corners(self.block).flatten(),
            weights.flatten(),
            (self.rows.stop - self.rows.start, self.cells.shape[0]),
        )
        return matrix @ self.cells

    def transposed(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """The transposed matrix times the gradient of the regions' sums: (cells, D)."""
        cell, order = self.corners(self.block).flatten().sort(stable=True)
        matrix = _csr(
            cell,
            self.row.repeat_interleave(4)[order],
            weights.flatten()[order],
            (self.cells.shape[0], self.rows.stop - self.rows.start),
        )
        return matrix @ gradient[self.rows]

    def dots(self, gradient: Tensor) -> Tensor:
        """Inner products (Q, 4) of each patch's cells with the gradient of its region."""
        own, corners = gradient[self.rows], self.corners(self.block)
        step = max(1, GATHERED // (4 * self.cells.shape[1]))
        parts = [
            torch.einsum("qtd,qd->qt", self.cells[corner], own[row])
            for corner, row in zip(corners.split(step), self.row.split(step), strict=True)
        ]
        return torch.cat(parts)

    def inverse_lengths(self) -> Tensor:
        """1 / |z| of each pixel, at most 1 / epsilon; 0 where z is nothing but rounding."""
        squared, longest = self._squared_lengths()
        lost = (squared < CANCELLED * longest).nonzero().squeeze(1)
        corners = self.corners(self.block)
        for part in lost.split(max(1, GATHERED // (4 * self.cells.shape[1]))):
            mixed = self.cells[corners[self.of_pixel[part]]]
            mixed = torch.einsum("pt,ptd->pd", self.weights[part], mixed)
            squared[part] = mixed.square().sum(1)
        inverse = 1 / squared.sqrt().clamp(min=EPSILON)
        # What is left of cells that cancel to the last digit is rounding, in any direction.
        noise = (NOISE * torch.finfo(squared.dtype).eps) ** 2
        return torch.where(squared < noise * longest, 0, inverse)

    def _squared_lengths(self) -> tuple[Tensor, Tensor]:
        grid = self.cells.view(-1, self.width, self.cells.shape[1])
        own = _dot(grid, grid)
        right = _dot(grid, _shift(grid, 1))
        below = _shift(grid, 0)
        down, falling = _dot(grid, below), _dot(grid, _shift(below, 1))
        rising = _dot(_shift(grid, 1), below)
        across = falling + rising
        y, y1, dy = (part[self.y] for part in self._rows)
        x, x1, dx = (part[self.x] for part in self._columns)
        ax, bx, cx = (1 - dx).square(), dx.square(), dx * (1 - dx)
        ay, by, cy = (1 - dy).square(), dy.square(), dy * (1 - dy)
        corners = own[y, x], own[y, x1], own[y1, x], own[y1, x1]
        squared = ay * (ax * corners[0] + bx * corners[1] + 2 * cx * right[y, x])
        squared += by * (ax * corners[2] + bx * corners[3] + 2 * cx * right[y1, x])
        squared += 2 * cy * (ax * down[y, x] + bx * down[y, x1] + cx * across[y, x])
        longest = torch.stack(corners).amax(0)
        return squared, longest

    def subtract_stencil(self, of_cells: Tensor, factor: Tensor) -> None:
        """Subtracts sum_p factor_p w_pt z_p from the gradient of each pixel's cells, in place."""
        upper = torch.triu_indices(4, 4, device=factor.device)
        products = factor[:, None] * self.weights[:, upper[0]] * self.weights[:, upper[1]]
        stencil = factor.new_zeros(self.cells.shape[0], len(upper[0]))
        stencil.index_add_(0, self.block[self.of_pixel], products)
        used = torch.unique(self.block)
        corners, stencil = self.corners(used), stencil[used]
        full = torch.empty(len(used), 4, 4, dtype=factor.dtype, device=factor.device)
        full[:, upper[0], upper[1]] = full[:, upper[1], upper[0]] = stencil
        step = max(1, GATHERED // (4 * self.cells.shape[1]))
        for corner, part in zip(corners.split(step), full.split(step), strict=True):
            moved = torch.bmm(part, self.cells[corner])
            of_cells.index_add_(0, corner.flatten(), moved.flatten(0, 1), alpha=-1)


def _csr(row: Tensor, column: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix from entries sorted by row."""
    bounds = torch.searchsorted(row, torch.arange(shape[0] + 1, device=row.device))
    with warnings.catch_warnings():
        # "Sparse CSR tensor support is in beta": products with dense matrices are what it is for.
        warnings.filterwarnings("ignore", message="Sparse CSR")
        return torch.sparse_csr_tensor(bounds, column, values, shape, check_invariants=False)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Inner products over the last axis."""
    return torch.einsum("yxd,yxd->yx", first, second)


def _shift(grid: Tensor, dim: int) -> Tensor:
    """The next cell along an axis; the last one stays."""
    last = grid.narrow(dim, grid.shape[dim] - 1, 1)
    return torch.cat([grid.narrow(dim, 1, grid.shape[dim] - 1), last], dim)
