"""What kernels share: a *block* are the pixels between the same four cells.

A pixel is a mix of the four cells around it, so four cells are loaded for all pixels of a block,
and what is added to them goes to the same four. Pixels before the first cell of an axis have
blocks of their own, as those beyond the last do: with them the first block would be half as large
again as all others, and every program would hold lanes for so many pixels.

A program goes along a few blocks of a row. Neighbors share two of their four cells, so it loads
two of each block and adds to two; and a GPU starts about one program a clock, which is less often
than it could be done with one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from vice.regions.bilinear import Axis, axis
from vice.regions.fragments import CANCELLED, EPSILON, NOISE

_WIDEST = 1024
#: Into how many parts a batch is split where something as large as its embedding would be held.
PARTS = 8
#: Blocks of a row that one program goes along.
ALONG = 4


def supports(embeddings: Tensor) -> bool:
    """Whether the kernels take an embedding: float32, float16 or bfloat16, at most 1,024 wide."""
    kinds = (torch.float32, torch.float16, torch.bfloat16)
    return embeddings.dtype in kinds and embeddings.shape[1] <= _WIDEST


@triton.jit
def row_of_cells(height):
    """Map of a program's blocks, and the rows of cells above and below them."""
    y = tl.program_id(1)
    return tl.program_id(2).to(tl.int64), tl.maximum(y - 1, 0), tl.minimum(y, height - 1)


@triton.jit
def columns_of_cells(x, width):
    """Columns of the cells to the left and to the right of block ``x`` of its row."""
    return tl.maximum(x - 1, 0), tl.minimum(x, width - 1)


@triton.jit
def stretch(width, ALONG: tl.constexpr):
    """The blocks that a program goes along: the first, and the one after the last."""
    first = tl.program_id(0) * ALONG
    return first, tl.minimum(first + ALONG, width + 1)


@triton.jit
def along_axis(first, shares, block, lane):
    """Pixels of a block along one axis, whether there are so many, and their shares."""
    pixel = tl.load(first + block) + lane
    valid = pixel < tl.load(first + block + 1)
    return pixel, valid, tl.load(shares + pixel, mask=valid, other=0.0)


@triton.jit
def pixels(
    x, rows, shares_y, shares_x, first_y, first_x, pixels_y, pixels_x, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr,
):  # fmt: skip
    """Weights and places of the pixels of block ``x`` of a program's row, regions or ``none``."""
    lane = tl.arange(0, SIDE_Y * SIDE_X)
    py, valid_y, down = along_axis(first_y, shares_y, tl.program_id(1), lane // SIDE_X)
    px, valid_x, along = along_axis(first_x, shares_x, x, lane % SIDE_X)
    place = (tl.program_id(2).to(tl.int64) * pixels_y + py) * pixels_x + px
    row = tl.load(rows + place, mask=valid_y & valid_x, other=none)
    w0, w1 = (1 - down) * (1 - along), (1 - down) * along
    w2, w3 = down * (1 - along), down * along
    return (w0, w1, w2, w3), place, row, lane


@triton.jit
def _cell(base, y, x, stride_y, stride_x, stride_d, d, dim):
    return tl.load(base + y * stride_y + x * stride_x + d * stride_d, mask=d < dim, other=0.0).to(
        tl.float32
    )


@triton.jit
def two_cells(cells, around, x, d, dim, stride_b, stride_d, stride_y, stride_x):
    """Numbers ``d`` of the cells of column ``x`` above and below a program's blocks.

    In float32; 0 beyond the last.
    """
    number, above, below = around
    base = cells + number * stride_b
    upper = _cell(base, above, x, stride_y, stride_x, stride_d, d, dim)
    lower = _cell(base, below, x, stride_y, stride_x, stride_d, d, dim)
    return upper, lower


@triton.jit
def inverse_lengths(
    mixed, weights, left, lane, cancelled, noise, epsilon, PIXELS: tl.constexpr
):  # fmt: skip
    """As `vice.regions.fragments.OneMap.inverse_lengths`, of the pixels ``left`` of a block."""
    c0, c1, c2, c3 = mixed
    w0, w1, w2, w3 = weights
    g0, g1, g2, g3 = tl.sum(c0 * c0), tl.sum(c1 * c1), tl.sum(c2 * c2), tl.sum(c3 * c3)
    squared = w0 * w0 * g0 + w1 * w1 * g1 + w2 * w2 * g2 + w3 * w3 * g3
    squared += 2 * w0 * (w1 * tl.sum(c0 * c1) + w2 * tl.sum(c0 * c2))
    squared += 2 * w3 * (w1 * tl.sum(c1 * c3) + w2 * tl.sum(c2 * c3))
    # w0 w3 is w1 w2: both diagonals are one sum.
    squared += 2 * w1 * w2 * tl.sum(c0 * c3 + c1 * c2)
    longest = tl.maximum(tl.maximum(g0, g1), tl.maximum(g2, g3))
    lost = tl.where(left & (squared < cancelled * longest), lane, PIXELS)
    first = tl.min(lost)
    while first < PIXELS:
        pick = lane == first
        z = c0 * tl.sum(tl.where(pick, w0, 0.0)) + c1 * tl.sum(tl.where(pick, w1, 0.0))
        z += c2 * tl.sum(tl.where(pick, w2, 0.0)) + c3 * tl.sum(tl.where(pick, w3, 0.0))
        squared = tl.where(pick, tl.sum(z * z), squared)
        lost = tl.where(pick, PIXELS, lost)
        first = tl.min(lost)
    length = 1 / tl.maximum(tl.sqrt(tl.maximum(squared, 0.0)), epsilon)
    return tl.where(squared < noise * longest, 0.0, length)


@triton.jit
def less_stencil(of_cells, mixed, weights, factor):
    """What the four cells get, less sum_p factor_p w_pt z_p."""
    o0, o1, o2, o3 = of_cells
    c0, c1, c2, c3 = mixed
    w0, w1, w2, w3 = weights
    k01, k02 = tl.sum(factor * w0 * w1), tl.sum(factor * w0 * w2)
    k13, k23 = tl.sum(factor * w1 * w3), tl.sum(factor * w2 * w3)
    # w0 w3 is w1 w2.
    across = tl.sum(factor * w1 * w2)
    o0 -= tl.sum(factor * w0 * w0) * c0 + k01 * c1 + k02 * c2 + across * c3
    o1 -= k01 * c0 + tl.sum(factor * w1 * w1) * c1 + across * c2 + k13 * c3
    o2 -= k02 * c0 + across * c1 + tl.sum(factor * w2 * w2) * c2 + k23 * c3
    o3 -= across * c0 + k13 * c1 + k23 * c2 + tl.sum(factor * w3 * w3) * c3
    return o0, o1, o2, o3


@triton.jit
def add(place, values, mask):
    """Adds to memory; without a fence, for nobody reads it before the kernel has ended."""
    tl.atomic_add(place, values, mask=mask, sem="relaxed")


@triton.jit
def add_to_cells(
    found, upper, lower, around, x, d, write, stride_b, stride_d, stride_y, stride_x
):  # fmt: skip
    """Adds to numbers ``d`` of the cells of column ``x`` above and below a program's blocks."""
    number, above, below = around
    into = found + number * stride_b + x * stride_x + d * stride_d
    add(into + above * stride_y, upper, write)
    add(into + below * stride_y, lower, write)


class Plan:
    """What the kernels need beside the embedding.

    Args:
        embeddings: (B, D, h', w').
        numbered: Regions as `vice.regions.index_regions` numbers them.
        align_corners: As in `torch.nn.functional.interpolate`.

    Attributes:
        none: Number of regions, and the row of a pixel that has none.
        maps: B.
        size: (h, w).
        axes: Where the pixels of both axes lie, `vice.regions.bilinear.Axis`.
        tensors: Region of each pixel (int32), shares and first pixels of both axes.
        blocks: Of a map: columns, rows.
        bounds: When a mix is computed outright, when it has no direction, and the shortest length.
        constants: Compile-time constants, and how many warps a program of D wide vectors takes.
    """

    def __init__(self, embeddings: Tensor, numbered: Any, *, align_corners: bool) -> None:
        maps, dim, height, width = embeddings.shape
        size = numbered.size
        rows, first_y, side_y = _axis(size[0], height, align_corners, embeddings.device)
        columns, first_x, side_x = _axis(size[1], width, align_corners, embeddings.device)
        self.axes = (rows, columns)
        self.none = numbered.counts.numel()
        self.maps = maps
        self.size = size
        self.tensors = (numbered.row, rows.share, columns.share, first_y, first_x)
        self.blocks = (width + 1, height + 1)
        eps = torch.finfo(torch.float32).eps
        self.bounds = (CANCELLED, (NOISE * eps) ** 2, EPSILON)
        self.constants = {
            "SIDE_Y": triton.next_power_of_2(side_y),
            "SIDE_X": triton.next_power_of_2(side_x),
            "DIM": triton.next_power_of_2(dim),
            "ALONG": ALONG,
        }
        # A warp reduces by itself as long as the embedding is narrow.
        self.constants["num_warps"] = max(1, min(8, self.constants["DIM"] // 128))

    def numbers(self, strided: Tensor) -> tuple[int, ...]:
        """Sizes and strides in the kernels' order."""
        _, dim, height, width = strided.shape
        return (dim, height, width, *self.size, *strided.stride())

    def parts(self, number: int = 1) -> Iterator[Part]:
        """Splits the batch into about so many parts."""
        row, *axes = self.tensors
        step = -(-self.maps // number)
        for first in range(0, self.maps, step):
            maps = slice(first, min(first + step, self.maps))
            pixels = slice(*(end * self.size[0] * self.size[1] for end in (maps.start, maps.stop)))
            columns, rows = self.blocks
            grid = (columns, rows, maps.stop - maps.start)
            stretches = (-(-columns // ALONG), *grid[1:])
            yield Part(maps, pixels, grid, stretches, (row[pixels], *axes))


class Part(NamedTuple):
    """Some maps of a batch.

    Attributes:
        maps: Which.
        pixels: Theirs, among those of all maps.
        grid: Programs that handle all their blocks, one each.
        stretches: Programs that go along their blocks.
        tensors: As `Plan.tensors`, of their pixels.
    """

    maps: slice
    pixels: slice
    grid: tuple[int, int, int]
    stretches: tuple[int, int, int]
    tensors: tuple[Tensor, ...]


def as_read(embeddings: Tensor) -> Tensor:
    """The embedding as the kernels read it, a cell's numbers side by side."""
    return embeddings.contiguous(memory_format=torch.channels_last)


def gradients(found: Tensor, plan: Plan) -> Iterator[tuple[Part, Tensor]]:
    """Parts of a batch, and float32 zeros to which the gradient of each is added.

    Low precision is added up part by part: that of the whole batch would be twice the embedding,
    and would not stay in the GPU's cache.

    Args:
        found: Gets the gradient; any content, any floating type.
        plan: Of the kernels.
    """
    direct = found.dtype == torch.float32
    for part in plan.parts(1 if direct else PARTS):
        own = found[part.maps]
        into = own.zero_() if direct else torch.zeros_like(own, dtype=torch.float32)
        yield part, into
        if not direct:
            own.copy_(into)


@lru_cache(maxsize=64)
def _axis(
    pixels: int, cells: int, align_corners: bool, device: torch.device
) -> tuple[Axis, Tensor, int]:
    """An axis, where the pixels of each block begin, one more at the end, and how many at most.

    The first block has those before the first cell, which are on it alone. Worked out on the
    host, for which a GPU's numbers would have to be waited for, and kept.
    """
    # What inference makes could not be used in a training later.
    with torch.inference_mode(False):
        line = axis(pixels, cells, torch.zeros(0), align_corners=align_corners)
        low = torch.searchsorted(line.low, torch.arange(1, cells + 1))
        before = ((line.low == 0) & (line.share == 0)).sum(0, keepdim=True)
        first = torch.cat([torch.zeros_like(before), before, low]).to(torch.int32)
        side = max(1, int((first[1:] - first[:-1]).max()))
        return Axis(*(part.to(device) for part in line)), first.to(device), side
