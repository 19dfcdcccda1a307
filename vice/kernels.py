"""Region means as one Triton kernel each way: the arithmetic of `vice.pooling`, fused.

One program handles one *block*: the pixels whose upper left cell is the same. It loads the four
cells around them once, takes the lengths of all pixels from their inner products, gathers the
pixels of each region into four weights and adds the weighted cells to the region's sum. The
gradient recomputes all that, and keeps nothing but one number a pixel between the two.

Sums go through atomic additions in float32, so their order, and the last digits, may differ from
call to call; the pure PyTorch path of `vice.pooling` is deterministic.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from vice.patches import CANCELLED, EPSILON, NOISE, axis

_WIDEST = 1024


def supports(embeddings: Tensor) -> bool:
    """Whether the kernels take an embedding: float32, float16 or bfloat16, at most 1,024 wide."""
    kinds = (torch.float32, torch.float16, torch.bfloat16)
    return embeddings.dtype in kinds and embeddings.shape[1] <= _WIDEST


@triton.jit
def _cell(base, y, x, stride_y, stride_x, stride_d, d, dim):
    return tl.load(base + y * stride_y + x * stride_x + d * stride_d, mask=d < dim, other=0.0).to(
        tl.float32
    )


@triton.jit
def _block(
    cells, rows, shares_y, shares_x, first_y, first_x,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """The four cells of a program's block, its pixels' weights, and where all of it lies."""
    block = tl.program_id(0)
    x = block % width
    y = (block // width) % height
    number = (block // (width * height)).to(tl.int64)
    below, right = tl.minimum(y + 1, height - 1), tl.minimum(x + 1, width - 1)
    d = tl.arange(0, DIM)
    base = cells + number * stride_b
    c0 = _cell(base, y, x, stride_y, stride_x, stride_d, d, dim)
    c1 = _cell(base, y, right, stride_y, stride_x, stride_d, d, dim)
    c2 = _cell(base, below, x, stride_y, stride_x, stride_d, d, dim)
    c3 = _cell(base, below, right, stride_y, stride_x, stride_d, d, dim)
    lane = tl.arange(0, SIDE_Y * SIDE_X)
    py = tl.load(first_y + y) + lane // SIDE_X
    px = tl.load(first_x + x) + lane % SIDE_X
    valid = (py < tl.load(first_y + y + 1)) & (px < tl.load(first_x + x + 1))
    down = tl.load(shares_y + py, mask=valid, other=0.0)
    along = tl.load(shares_x + px, mask=valid, other=0.0)
    place = (number * pixels_y + py) * pixels_x + px
    row = tl.load(rows + place, mask=valid, other=none)
    w0, w1 = (1 - down) * (1 - along), (1 - down) * along
    w2, w3 = down * (1 - along), down * along
    left = valid & (row < none)
    corner = (number, y, x, below, right)
    return corner, (c0, c1, c2, c3), (w0, w1, w2, w3), place, row, left, lane, d


@triton.jit
def _forward(
    cells, rows, shares_y, shares_x, first_y, first_x, sums, inverse,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x,
    cancelled, noise, epsilon, none,
    NORMALIZE: tl.constexpr, SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    _, mixed, weights, place, row, left, lane, d = _block(
        cells, rows, shares_y, shares_x, first_y, first_x,
        dim, height, width, pixels_y, pixels_x,
        stride_b, stride_d, stride_y, stride_x, none, SIDE_Y, SIDE_X, DIM,
    )  # fmt: skip
    c0, c1, c2, c3 = mixed
    w0, w1, w2, w3 = weights
    length = tl.full((SIDE_Y * SIDE_X,), 1.0, tl.float32)
    if NORMALIZE:
        g0, g1, g2, g3 = tl.sum(c0 * c0), tl.sum(c1 * c1), tl.sum(c2 * c2), tl.sum(c3 * c3)
        squared = w0 * w0 * g0 + w1 * w1 * g1 + w2 * w2 * g2 + w3 * w3 * g3
        squared += 2 * w0 * (w1 * tl.sum(c0 * c1) + w2 * tl.sum(c0 * c2) + w3 * tl.sum(c0 * c3))
        squared += 2 * w1 * (w2 * tl.sum(c1 * c2) + w3 * tl.sum(c1 * c3))
        squared += 2 * w2 * w3 * tl.sum(c2 * c3)
        longest = tl.maximum(tl.maximum(g0, g1), tl.maximum(g2, g3))
        lost = left & (squared < cancelled * longest)
        while tl.sum(lost.to(tl.int32)) > 0:
            pick = lane == tl.min(tl.where(lost, lane, SIDE_Y * SIDE_X))
            z = c0 * tl.sum(tl.where(pick, w0, 0.0)) + c1 * tl.sum(tl.where(pick, w1, 0.0))
            z += c2 * tl.sum(tl.where(pick, w2, 0.0)) + c3 * tl.sum(tl.where(pick, w3, 0.0))
            squared = tl.where(pick, tl.sum(z * z), squared)
            lost = lost & (lane != tl.min(tl.where(pick, lane, SIDE_Y * SIDE_X)))
        length = 1 / tl.maximum(tl.sqrt(tl.maximum(squared, 0.0)), epsilon)
        length = tl.where(squared < noise * longest, 0.0, length)
        tl.store(inverse + place, length, mask=left)
    while tl.sum(left.to(tl.int32)) > 0:
        region = tl.min(tl.where(left, row, none))
        mine = left & (row == region)
        weight = tl.where(mine, length, 0.0)
        total = tl.sum(weight * w0) * c0 + tl.sum(weight * w1) * c1
        total += tl.sum(weight * w2) * c2 + tl.sum(weight * w3) * c3
        tl.atomic_add(sums + region.to(tl.int64) * dim + d, total, mask=d < dim)
        left = left & (row != region)


@triton.jit
def _backward(
    cells, rows, shares_y, shares_x, first_y, first_x, inverse, gradient, found,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x,
    epsilon, none,
    NORMALIZE: tl.constexpr, SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    corner, mixed, weights, place, row, left, _, d = _block(
        cells, rows, shares_y, shares_x, first_y, first_x,
        dim, height, width, pixels_y, pixels_x,
        stride_b, stride_d, stride_y, stride_x, none, SIDE_Y, SIDE_X, DIM,
    )  # fmt: skip
    c0, c1, c2, c3 = mixed
    w0, w1, w2, w3 = weights
    number, y, x, below, right = corner
    length = tl.full((SIDE_Y * SIDE_X,), 1.0, tl.float32)
    if NORMALIZE:
        length = tl.load(inverse + place, mask=left, other=0.0)
    any_left = tl.sum(left.to(tl.int32)) > 0
    o0 = tl.zeros((DIM,), tl.float32)
    o1, o2, o3 = o0, o0, o0
    factor = tl.zeros((SIDE_Y * SIDE_X,), tl.float32)
    while tl.sum(left.to(tl.int32)) > 0:
        region = tl.min(tl.where(left, row, none))
        mine = left & (row == region)
        g = tl.load(gradient + region.to(tl.int64) * dim + d, mask=d < dim, other=0.0)
        weight = tl.where(mine, length, 0.0)
        o0 += tl.sum(weight * w0) * g
        o1 += tl.sum(weight * w1) * g
        o2 += tl.sum(weight * w2) * g
        o3 += tl.sum(weight * w3) * g
        if NORMALIZE:
            dot = w0 * tl.sum(c0 * g) + w1 * tl.sum(c1 * g)
            dot += w2 * tl.sum(c2 * g) + w3 * tl.sum(c3 * g)
            bounded = tl.where(length < 1 / epsilon, length, 0.0)
            factor += tl.where(mine, bounded * bounded * bounded * dot, 0.0)
        left = left & (row != region)
    if NORMALIZE:
        k01, k02, k03 = tl.sum(factor * w0 * w1), tl.sum(factor * w0 * w2), tl.sum(factor * w0 * w3)
        k12, k13, k23 = tl.sum(factor * w1 * w2), tl.sum(factor * w1 * w3), tl.sum(factor * w2 * w3)
        o0 -= tl.sum(factor * w0 * w0) * c0 + k01 * c1 + k02 * c2 + k03 * c3
        o1 -= k01 * c0 + tl.sum(factor * w1 * w1) * c1 + k12 * c2 + k13 * c3
        o2 -= k02 * c0 + k12 * c1 + tl.sum(factor * w2 * w2) * c2 + k23 * c3
        o3 -= k03 * c0 + k13 * c1 + k23 * c2 + tl.sum(factor * w3 * w3) * c3
    into = found + number * stride_b
    write = (d < dim) & any_left
    tl.atomic_add(into + y * stride_y + x * stride_x + d * stride_d, o0, mask=write)
    tl.atomic_add(into + y * stride_y + right * stride_x + d * stride_d, o1, mask=write)
    tl.atomic_add(into + below * stride_y + x * stride_x + d * stride_d, o2, mask=write)
    tl.atomic_add(into + below * stride_y + right * stride_x + d * stride_d, o3, mask=write)


class FusedMeans(torch.autograd.Function):
    """`vice.pooling.PooledMeans` as Triton kernels; same arguments, float32 result."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, embeddings: Tensor, numbered: Any, size: tuple[int, int], options: dict[str, bool]
    ) -> Tensor:
        """One pass over the embedding."""
        if not embeddings.is_contiguous(memory_format=torch.channels_last):
            embeddings = embeddings.contiguous()
        maps, dim, height, width = embeddings.shape
        plan = _Plan(embeddings, numbered, size, options)
        sums = embeddings.new_zeros(plan.none, dim, dtype=torch.float32)
        inverse = sums.new_empty(maps * size[0] * size[1] if options["normalize"] else 1)
        eps = torch.finfo(torch.float32).eps
        if plan.none:
            _forward[(maps * height * width,)](
                embeddings, *plan.tensors, sums, inverse, *plan.numbers(embeddings),
                CANCELLED, (NOISE * eps) ** 2, EPSILON, plan.none, **plan.constants,
            )  # fmt: skip
        ctx.save_for_backward(embeddings, inverse, numbered.counts)
        ctx.plan = plan
        return sums / numbered.counts.unsqueeze(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """One pass over the embedding and its gradient."""
        embeddings, inverse, counts = ctx.saved_tensors
        plan = ctx.plan
        gradient = (gradient / counts.unsqueeze(1)).contiguous()
        found = torch.zeros_like(embeddings, dtype=torch.float32)
        maps, _, height, width = embeddings.shape
        if plan.none:
            _backward[(maps * height * width,)](
                embeddings, *plan.tensors, inverse, gradient, found, *plan.numbers(found),
                EPSILON, plan.none, **plan.constants,
            )  # fmt: skip
        return found.to(embeddings.dtype), None, None, None


class _Plan:
    """What both kernels need beside the embedding."""

    def __init__(
        self, embeddings: Tensor, numbered: Any, size: tuple[int, int], options: dict[str, bool]
    ) -> None:
        weights = embeddings.new_zeros(0, dtype=torch.float32)
        corners = {"align_corners": options["align_corners"]}
        rows = axis(size[0], embeddings.shape[2], weights, **corners)
        columns = axis(size[1], embeddings.shape[3], weights, **corners)
        first_y, side_y = _first_pixels(rows.low, embeddings.shape[2])
        first_x, side_x = _first_pixels(columns.low, embeddings.shape[3])
        self.none = numbered.counts.numel()
        self.size = size
        row = numbered.row.to(torch.int32)
        self.tensors = (row, rows.share, columns.share, first_y, first_x)
        self.constants = {
            "NORMALIZE": options["normalize"],
            "SIDE_Y": triton.next_power_of_2(side_y),
            "SIDE_X": triton.next_power_of_2(side_x),
            "DIM": triton.next_power_of_2(embeddings.shape[1]),
        }
        # A warp reduces by itself as long as the embedding is narrow.
        self.constants["num_warps"] = max(1, min(8, self.constants["DIM"] // 128))

    def numbers(self, strided: Tensor) -> tuple[int, ...]:
        """Sizes and strides in the kernels' order."""
        _, dim, height, width = strided.shape
        return (dim, height, width, *self.size, *strided.stride())


def _first_pixels(low: Tensor, cells: int) -> tuple[Tensor, int]:
    """Where the pixels of each cell begin, one more at the end, and how many there are at most."""
    first = torch.searchsorted(low, torch.arange(cells + 1, device=low.device)).to(torch.int32)
    return first, max(1, int((first[1:] - first[:-1]).max()))
