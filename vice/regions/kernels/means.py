"""Region means as one kernel each way: the arithmetic of `vice.regions.means`, fused.

A program takes the lengths of all pixels of a block from the inner products of the four cells,
gathers the pixels of each region into four weights and adds the weighted cells to the region's
sum; then it goes on to the next block of its row. The gradient recomputes all that, and keeps
nothing but one number a pixel between the two.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from vice.regions.kernels.blocks import (
    Plan,
    add,
    add_to_cells,
    as_read,
    columns_of_cells,
    gradients,
    inverse_lengths,
    less_stencil,
    pixels,
    row_of_cells,
    stretch,
    two_cells,
)


@triton.jit(do_not_specialize=["none"])
def _forward(
    cells, rows, shares_y, shares_x, first_y, first_x, sums, inverse,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x,
    cancelled, noise, epsilon, none,
    NORMALIZE: tl.constexpr, SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, DIM: tl.constexpr,
    ALONG: tl.constexpr,
):  # fmt: skip
    around, d = row_of_cells(height), tl.arange(0, DIM)
    first, end = stretch(width, ALONG)
    left, _ = columns_of_cells(first, width)
    c0, c2 = two_cells(cells, around, left, d, dim, stride_b, stride_d, stride_y, stride_x)
    for x in range(first, end):
        _, right = columns_of_cells(x, width)
        c1, c3 = two_cells(cells, around, right, d, dim, stride_b, stride_d, stride_y, stride_x)
        weights, place, row, lane = pixels(
            x, rows, shares_y, shares_x, first_y, first_x, pixels_y, pixels_x, none, SIDE_Y, SIDE_X
        )
        w0, w1, w2, w3 = weights
        length = tl.full((SIDE_Y * SIDE_X,), 1.0, tl.float32)
        if NORMALIZE:
            inside = row < none
            length = inverse_lengths(
                (c0, c1, c2, c3), weights, inside, lane, cancelled, noise, epsilon, SIDE_Y * SIDE_X
            )
            tl.store(inverse + place, length, mask=inside)
        region = tl.min(row)
        while region < none:
            mine = row == region
            weight = tl.where(mine, length, 0.0)
            total = tl.sum(weight * w0) * c0 + tl.sum(weight * w1) * c1
            total += tl.sum(weight * w2) * c2 + tl.sum(weight * w3) * c3
            add(sums + region.to(tl.int64) * dim + d, total, d < dim)
            row = tl.where(mine, none, row)
            region = tl.min(row)
        c0, c2 = c1, c3


@triton.jit(do_not_specialize=["none"])
def _backward(
    cells, rows, shares_y, shares_x, first_y, first_x, inverse, gradient, found,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x,
    epsilon, none,
    NORMALIZE: tl.constexpr, SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, DIM: tl.constexpr,
    ALONG: tl.constexpr,
):  # fmt: skip
    around, d = row_of_cells(height), tl.arange(0, DIM)
    first, end = stretch(width, ALONG)
    left, right = columns_of_cells(first, width)
    c0, c2 = two_cells(cells, around, left, d, dim, stride_b, stride_d, stride_y, stride_x)
    # What the cells to the right of the block before are to get, and whether it had a region.
    o0 = tl.zeros((DIM,), tl.float32)
    o2, had = o0, first < 0
    for x in range(first, end):
        left, right = columns_of_cells(x, width)
        c1, c3 = two_cells(cells, around, right, d, dim, stride_b, stride_d, stride_y, stride_x)
        weights, place, row, _ = pixels(
            x, rows, shares_y, shares_x, first_y, first_x, pixels_y, pixels_x, none, SIDE_Y, SIDE_X
        )
        w0, w1, w2, w3 = weights
        length = tl.full((SIDE_Y * SIDE_X,), 1.0, tl.float32)
        if NORMALIZE:
            length = tl.load(inverse + place, mask=row < none, other=0.0)
        o1 = tl.zeros((DIM,), tl.float32)
        o3 = o1
        factor = tl.zeros((SIDE_Y * SIDE_X,), tl.float32)
        region = tl.min(row)
        has = region < none
        while region < none:
            mine = row == region
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
            row = tl.where(mine, none, row)
            region = tl.min(row)
        of_cells = (o0, o1, o2, o3)
        if NORMALIZE:
            of_cells = less_stencil(of_cells, (c0, c1, c2, c3), weights, factor)
        write = (d < dim) & (had | has)
        add_to_cells(
            found, of_cells[0], of_cells[2], around, left, d, write,
            stride_b, stride_d, stride_y, stride_x,
        )  # fmt: skip
        o0, o2, had = of_cells[1], of_cells[3], has
        c0, c2 = c1, c3
    add_to_cells(
        found, o0, o2, around, right, d, (d < dim) & had, stride_b, stride_d, stride_y, stride_x
    )


class FusedMeans(torch.autograd.Function):
    """`vice.regions.means.PooledMeans` as Triton kernels; same arguments, float32 result."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, embeddings: Tensor, numbered: Any, options: dict[str, bool]
    ) -> Tensor:
        """One pass over the embedding."""
        embeddings = as_read(embeddings)
        plan = Plan(embeddings, numbered, align_corners=options["align_corners"])
        plan.constants["NORMALIZE"] = options["normalize"]
        sums = embeddings.new_zeros(plan.none, embeddings.shape[1], dtype=torch.float32)
        inverse = sums.new_empty(numbered.row.numel() if options["normalize"] else 1)
        for part in plan.parts() if plan.none else ():
            _forward[part.stretches](
                embeddings, *part.tensors, sums, inverse, *plan.numbers(embeddings),
                *plan.bounds, plan.none, **plan.constants,
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
        if not plan.none:
            return torch.zeros_like(embeddings), None, None
        found = torch.empty_like(embeddings)
        for part, into in gradients(found, plan):
            lengths = inverse[part.pixels] if plan.constants["NORMALIZE"] else inverse
            _backward[part.stretches](
                embeddings[part.maps], *part.tensors, lengths, gradient, into, *plan.numbers(into),
                plan.bounds[-1], plan.none, **plan.constants,
            )  # fmt: skip
        return found, None, None
