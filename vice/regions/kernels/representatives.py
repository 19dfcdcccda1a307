"""Representatives as kernels: the arithmetic of `vice.regions.representatives`, fused.

One kernel takes the pixels' lengths; `vice.regions.kernels.choice` chooses by them; one more takes
the distances from the chosen pixels, of which each region keeps the sum. The gradient is one more
pass, in which a program adds to cells what its pixels' distances give, and to each region's vector
what pulls at it where that counts, before the chosen pixels get theirs.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from vice.regions.fragments import EPSILON, NOISE
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
from vice.regions.kernels.choice import add_to_chosen, choose
from vice.regions.kernels.tiles import constants_of, four_cells, mix, tile

#: Numbers of a cell that a program holds for every pixel of a block, where it takes distances.
_WIDE = 16


@triton.jit(do_not_specialize=["none"])
def _lengths(
    cells, rows, shares_y, shares_x, first_y, first_x, inverse,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x,
    cancelled, noise, epsilon, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, DIM: tl.constexpr, ALONG: tl.constexpr,
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
        inside = row < none
        length = inverse_lengths(
            (c0, c1, c2, c3), weights, inside, lane, cancelled, noise, epsilon, SIDE_Y * SIDE_X
        )
        tl.store(inverse + place, length, mask=inside)
        c0, c2 = c1, c3


@triton.jit(do_not_specialize=["none"])
def _distances(
    cells, rows, shares_y, shares_x, first_y, first_x, inverse, vectors, chosen, distance, sums,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x, noise, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    place, row, down, along = tile(
        rows, shares_y, shares_x, first_y, first_x, pixels_y, pixels_x, none, SIDE_Y, SIDE_X
    )
    inside = row < none
    length = tl.load(inverse + place, mask=inside, other=0.0)
    length_of = tl.reshape(length, (SIDE_Y, SIDE_X, 1))
    own = tl.reshape(tl.where(inside, row, 0), (SIDE_Y, SIDE_X, 1)).to(tl.int64) * dim
    squared = tl.zeros((SIDE_Y, SIDE_X, WIDE), tl.float32)
    for start in range(0, dim, WIDE):
        d = start + tl.arange(0, WIDE)
        four = four_cells(cells, height, width, d, dim, stride_b, stride_d, stride_y, stride_x)
        some = (d < dim)[None, None, :]
        vector = tl.load(vectors + own + d[None, None, :], mask=some, other=0.0)
        apart = mix(four, down, along) * length_of - vector
        squared += apart * apart
    far = tl.sqrt(tl.reshape(tl.sum(squared, 2), (SIDE_Y * SIDE_X,)))
    # The chosen pixel is mixed in two ways: rounding would be left where cells cancel.
    nothing = (far < noise) | (place == tl.load(chosen + row, mask=inside, other=0))
    far = tl.where(nothing, 0.0, far)
    tl.store(distance + place, far, mask=inside)
    region = tl.min(row)
    while region < none:
        mine = row == region
        add(sums + region, tl.sum(tl.where(mine, far, 0.0)), None)
        row = tl.where(mine, none, row)
        region = tl.min(row)


@triton.jit(do_not_specialize=["none"])
def _backward(
    cells, rows, shares_y, shares_x, first_y, first_x, inverse, distance, vectors, of_sums,
    found, pulled, totals,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x,
    epsilon, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, DIM: tl.constexpr, ALONG: tl.constexpr,
    THROUGH: tl.constexpr,
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
        length = tl.load(inverse + place, mask=row < none, other=0.0)
        far = tl.load(distance + place, mask=row < none, other=0.0)
        o1 = tl.zeros((DIM,), tl.float32)
        o3 = o1
        factor = tl.zeros((SIDE_Y * SIDE_X,), tl.float32)
        region = tl.min(row)
        has = region < none
        while region < none:
            mine = row == region
            of_region = region.to(tl.int64) * dim + d
            vector = tl.load(vectors + of_region, mask=d < dim, other=0.0)
            pull = tl.load(of_sums + region) / tl.where(far > 0, far, 1)
            pull = tl.where(mine & (far > 0), pull, 0.0)
            weight = pull * length
            s0, s1 = tl.sum(weight * w0), tl.sum(weight * w1)
            s2, s3 = tl.sum(weight * w2), tl.sum(weight * w3)
            if THROUGH:
                add(pulled + of_region, s0 * c0 + s1 * c1 + s2 * c2 + s3 * c3, d < dim)
                add(totals + region, tl.sum(pull), None)
            o0 -= s0 * vector
            o1 -= s1 * vector
            o2 -= s2 * vector
            o3 -= s3 * vector
            closeness = (1 + tl.sum(vector * vector) - far * far) / 2
            closeness = tl.where(length < 1 / epsilon, closeness, 1.0)
            factor -= weight * length * closeness
            row = tl.where(mine, none, row)
            region = tl.min(row)
        of_cells = less_stencil((o0, o1, o2, o3), (c0, c1, c2, c3), weights, factor)
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


class FusedRepresentatives(torch.autograd.Function):
    """`vice.regions.representatives.Representatives` by Triton; same arguments, float32 result."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        embeddings: Tensor,
        prototypes: Tensor,
        numbered: Any,
        options: dict[str, bool],
    ) -> tuple[Tensor, Tensor]:
        """Scores, choice and distances."""
        embeddings = as_read(embeddings)
        plan = Plan(embeddings, numbered, align_corners=options["align_corners"])
        count = plan.none
        empty = embeddings.new_zeros(0, embeddings.shape[1], dtype=torch.float32)
        ctx.plan, ctx.through = plan, options["through"]
        if not count:
            ctx.save_for_backward(embeddings)
            return empty, empty[:, 0]
        inverse, distance = empty.new_empty(2, numbered.row.numel())
        (whole,) = plan.parts()
        _lengths[whole.stretches](
            embeddings, *plan.tensors, inverse, *plan.numbers(embeddings), *plan.bounds, count,
            **plan.constants,
        )  # fmt: skip
        chosen, vectors = choose(embeddings, prototypes, inverse, plan)
        noise = NOISE * torch.finfo(torch.float32).eps
        coherence = inverse.new_zeros(count)
        _distances[whole.grid](
            embeddings, *plan.tensors, inverse, vectors, chosen, distance, coherence,
            *plan.numbers(embeddings), noise, count, **constants_of(plan, _WIDE),
        )  # fmt: skip
        ctx.save_for_backward(embeddings, inverse, distance, vectors, chosen, numbered.counts)
        return vectors, coherence / numbered.counts

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, of_vectors: Tensor, of_coherence: Tensor
    ) -> tuple[Tensor | None, ...]:
        """One pass over the embedding and its gradient, then the chosen pixels'."""
        embeddings, *kept = ctx.saved_tensors
        if not kept:
            return torch.zeros_like(embeddings), None, None, None
        with torch.autocast(of_vectors.device.type, enabled=False):
            found = _gradient(
                embeddings, kept, ctx.plan, (of_vectors, of_coherence), through=ctx.through
            )
        return found, None, None, None


def _gradient(
    embeddings: Tensor,
    kept: list[Tensor],
    plan: Plan,
    gradients_of: tuple[Tensor, Tensor],
    *,
    through: bool,
) -> Tensor:
    """Gradient of the embedding, (B, D, h', w') as it is.

    Args:
        embeddings: The embedding.
        kept: Inverse length and distance of each pixel; of each region the vector, the chosen pixel
            and the number of pixels.
        plan: Of the kernels.
        gradients_of: Of the vectors and of the coherence.
        through: Whether distances pull at their region's vector, too.
    """
    inverse, distance, vectors, chosen, counts = kept
    of_vectors, of_coherence = gradients_of
    of_vectors, of_sums = of_vectors.contiguous(), (of_coherence / counts).contiguous()
    # Memory: where nothing pulls at the vectors, nothing is added up, and these are not read.
    pulled, totals = (torch.zeros_like(part) if through else part for part in (vectors, of_sums))
    found = torch.empty_like(embeddings)
    for part, into in gradients(found, plan):
        _backward[part.stretches](
            embeddings[part.maps], *part.tensors, inverse[part.pixels], distance[part.pixels],
            vectors, of_sums, into, pulled, totals, *plan.numbers(into), EPSILON, plan.none,
            **plan.constants, THROUGH=through,
        )  # fmt: skip
        # A region's pixels are all of one map: what pulls at its vector is complete.
        own = (of_vectors, pulled, totals)
        add_to_chosen(into, part, plan, (inverse, chosen, vectors), own, through=through)
    return found
