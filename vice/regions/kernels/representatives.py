"""Representatives as kernels: the arithmetic of `vice.regions.representatives`, fused.

Scores of cells are a matrix product, some maps at a time. One kernel takes the pixels' lengths, one
their best scores, one their distances from the chosen pixel; each gives a number a pixel. The
gradient is one more pass, in which a program adds to its four cells what its pixels' distances
give, and to each region's vector what pulls at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from vice.regions.fragments import EPSILON, NOISE
from vice.regions.kernels.blocks import (
    PARTS,
    Plan,
    add,
    add_to_cells,
    along_axis,
    as_read,
    four_cells,
    gradients,
    inverse_lengths,
    less_stencil,
    pixels,
    whole_block,
)
from vice.regions.representatives import first_best, through_length

#: Numbers of a cell that a program handles at a time where it holds them for every pixel.
_WIDE = 32


@triton.jit(do_not_specialize=["none"])
def _lengths(
    cells, rows, shares_y, shares_x, first_y, first_x, inverse,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x,
    cancelled, noise, epsilon, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    _, mixed, weights, place, row, lane, _ = whole_block(
        cells, rows, shares_y, shares_x, first_y, first_x,
        dim, height, width, pixels_y, pixels_x,
        stride_b, stride_d, stride_y, stride_x, none, SIDE_Y, SIDE_X, DIM,
    )  # fmt: skip
    left = row < none
    length = inverse_lengths(mixed, weights, left, lane, cancelled, noise, epsilon, SIDE_Y * SIDE_X)
    tl.store(inverse + place, length, mask=left)


@triton.jit
def _tile(
    rows, shares_y, shares_x, first_y, first_x, height, width, pixels_y, pixels_x, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr,
):  # fmt: skip
    """Corner, places and regions as `pixels` gives them, and shares down and along the block."""
    corner, _, place, row, _ = pixels(
        rows, shares_y, shares_x, first_y, first_x, height, width, pixels_y, pixels_x, none,
        SIDE_Y, SIDE_X,
    )  # fmt: skip
    _, _, down = along_axis(first_y, shares_y, tl.program_id(1), tl.arange(0, SIDE_Y))
    _, _, along = along_axis(first_x, shares_x, tl.program_id(0), tl.arange(0, SIDE_X))
    return corner, place, row, down, along


@triton.jit
def _mix(four, down, along):
    """Mixes (rows, columns, n) of some numbers of four cells, (n,) each: down, then across."""
    c0, c1, c2, c3 = four
    left = c0[None, :] + down[:, None] * (c2 - c0)[None, :]
    right = c1[None, :] + down[:, None] * (c3 - c1)[None, :]
    return left[:, None, :] + along[None, :, None] * (right - left)[:, None, :]


@triton.jit(do_not_specialize=["none"])
def _best(
    scores, rows, shares_y, shares_x, first_y, first_x, best,
    some, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    corner, place, row, down, along = _tile(
        rows, shares_y, shares_x, first_y, first_x, height, width, pixels_y, pixels_x, none,
        SIDE_Y, SIDE_X,
    )  # fmt: skip
    tops = tl.full((SIDE_Y, SIDE_X, WIDE), float("-inf"), tl.float32)
    for start in range(0, some, WIDE):
        # The last one again does no harm.
        k = tl.minimum(start + tl.arange(0, WIDE), some - 1)
        four = four_cells(scores, corner, k, some, stride_b, stride_d, stride_y, stride_x)
        tops = tl.maximum(tops, _mix(four, down, along))
    left = row < none
    top = tl.reshape(tl.max(tops, 2), (SIDE_Y * SIDE_X,))
    top = tl.maximum(top, tl.load(best + place, mask=left, other=0.0))
    tl.store(best + place, top, mask=left)


@triton.jit(do_not_specialize=["none"])
def _distances(
    cells, rows, shares_y, shares_x, first_y, first_x, inverse, vectors, distance,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x, noise, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    corner, place, row, down, along = _tile(
        rows, shares_y, shares_x, first_y, first_x, height, width, pixels_y, pixels_x, none,
        SIDE_Y, SIDE_X,
    )  # fmt: skip
    left = row < none
    length = tl.load(inverse + place, mask=left, other=0.0)
    length_of = tl.reshape(length, (SIDE_Y, SIDE_X, 1))
    own = tl.reshape(tl.where(left, row, 0), (SIDE_Y, SIDE_X, 1)).to(tl.int64) * dim
    squared = tl.zeros((SIDE_Y, SIDE_X, WIDE), tl.float32)
    for start in range(0, dim, WIDE):
        d = start + tl.arange(0, WIDE)
        four = four_cells(cells, corner, d, dim, stride_b, stride_d, stride_y, stride_x)
        some = (d < dim)[None, None, :]
        vector = tl.load(vectors + own + d[None, None, :], mask=some, other=0.0)
        apart = _mix(four, down, along) * length_of - vector
        squared += apart * apart
    far = tl.sqrt(tl.reshape(tl.sum(squared, 2), (SIDE_Y * SIDE_X,)))
    tl.store(distance + place, tl.where(far < noise, 0.0, far), mask=left)


@triton.jit(do_not_specialize=["none"])
def _backward(
    cells, rows, shares_y, shares_x, first_y, first_x, inverse, distance, vectors, of_sums,
    found, pulled, totals,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x,
    epsilon, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    corner, mixed, weights, place, row, _, d = whole_block(
        cells, rows, shares_y, shares_x, first_y, first_x,
        dim, height, width, pixels_y, pixels_x,
        stride_b, stride_d, stride_y, stride_x, none, SIDE_Y, SIDE_X, DIM,
    )  # fmt: skip
    c0, c1, c2, c3 = mixed
    w0, w1, w2, w3 = weights
    length = tl.load(inverse + place, mask=row < none, other=0.0)
    far = tl.load(distance + place, mask=row < none, other=0.0)
    o0 = tl.zeros((DIM,), tl.float32)
    o1, o2, o3 = o0, o0, o0
    factor = tl.zeros((SIDE_Y * SIDE_X,), tl.float32)
    region = tl.min(row)
    write = (d < dim) & (region < none)
    while region < none:
        mine = row == region
        of_region = region.to(tl.int64) * dim + d
        vector = tl.load(vectors + of_region, mask=d < dim, other=0.0)
        pull = tl.load(of_sums + region) / tl.where(far > 0, far, 1)
        pull = tl.where(mine & (far > 0), pull, 0.0)
        weight = pull * length
        s0, s1 = tl.sum(weight * w0), tl.sum(weight * w1)
        s2, s3 = tl.sum(weight * w2), tl.sum(weight * w3)
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
    of_cells = less_stencil((o0, o1, o2, o3), mixed, weights, factor)
    add_to_cells(found, of_cells, corner, d, write, stride_b, stride_d, stride_y, stride_x)


class FusedRepresentatives(torch.autograd.Function):
    """`vice.regions.representatives.Representatives` by Triton; same arguments, float32 result."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        embeddings: Tensor,
        prototypes: Tensor,
        numbered: Any,
        align_corners: bool,
    ) -> tuple[Tensor, Tensor]:
        """Scores, choice and distances."""
        embeddings = as_read(embeddings)
        plan = Plan(embeddings, numbered, align_corners=align_corners)
        row, count = numbered.row, plan.none
        empty = embeddings.new_zeros(0, embeddings.shape[1], dtype=torch.float32)
        ctx.plan = plan
        if not count:
            ctx.save_for_backward(embeddings)
            return empty, empty[:, 0]
        inverse, distance = empty.new_zeros(2, row.numel())
        (whole,) = plan.parts()
        _lengths[whole.grid](
            embeddings, *plan.tensors, inverse, *plan.numbers(embeddings), *plan.bounds, count,
            **plan.constants,
        )  # fmt: skip
        scores = _best_scores(embeddings, prototypes, plan).mul_(inverse)
        chosen = first_best(row.long(), scores, count + 1)[:count]
        del scores
        vectors = _mixed(embeddings, plan, chosen) * inverse[chosen, None]
        noise = NOISE * torch.finfo(torch.float32).eps
        _distances[whole.grid](
            embeddings, *plan.tensors, inverse, vectors, distance, *plan.numbers(embeddings),
            noise, count, **_wide(plan),
        )  # fmt: skip
        # Mixed in two ways, rounding would be left where cells cancel.
        distance.index_fill_(0, chosen, 0)
        coherence = inverse.new_zeros(count + 1).index_add_(0, row, distance)[:count]
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
            found = _gradient(embeddings, kept, ctx.plan, (of_vectors, of_coherence))
        return found, None, None, None


def _wide(plan: Plan) -> dict[str, int]:
    """Constants of kernels that hold some numbers of every pixel of a block."""
    constants = {name: plan.constants[name] for name in ("SIDE_Y", "SIDE_X")}
    held = constants["SIDE_Y"] * constants["SIDE_X"] * _WIDE
    return {**constants, "WIDE": _WIDE, "num_warps": max(1, min(8, held // 1024))}


def _best_scores(embeddings: Tensor, prototypes: Tensor, plan: Plan) -> Tensor:
    """Best score (B*h*w,) of each pixel's mix, not divided by its length."""
    _, dim, height, width = embeddings.shape
    best = prototypes.new_full((plan.tensors[0].numel(),), -torch.inf)
    for part in plan.parts(PARTS):
        cells = _by_cell(embeddings[part.maps]).float()
        for some in prototypes.split(dim):
            scores = (cells @ some.t()).view(-1, height, width, len(some)).permute(0, 3, 1, 2)
            _best[part.grid](
                scores, *part.tensors, best[part.pixels], *plan.numbers(scores),
                plan.none, **_wide(plan),
            )  # fmt: skip
    return best


def _by_cell(values: Tensor) -> Tensor:
    """What lies in memory with a cell's numbers side by side, (B, D, h', w'), as (B*h'*w', D)."""
    return values.permute(0, 2, 3, 1).view(-1, values.shape[1])


def _corners(plan: Plan, pixels: Tensor, cells: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Place among all cells (N,) and weight (N, 1) of each of the four around some pixels (N,)."""
    height, width = plan.size
    rows, columns = plan.axes
    number, y, x = pixels // (height * width), pixels % (height * width) // width, pixels % width
    down, right = rows.share[y], columns.share[x]
    for cell_y, share_y in ((rows.low, 1 - down), (rows.high, down)):
        for cell_x, share_x in ((columns.low, 1 - right), (columns.high, right)):
            place = (number * cells[0] + cell_y[y]) * cells[1] + cell_x[x]
            yield place, (share_y * share_x).unsqueeze(1)


def _mixed(embeddings: Tensor, plan: Plan, pixels: Tensor) -> Tensor:
    """Mixes (N, D) of some pixels (N,)."""
    cells, shape = _by_cell(embeddings), (embeddings.shape[2], embeddings.shape[3])
    mixed = cells.new_zeros(len(pixels), cells.shape[1], dtype=torch.float32)
    for place, weight in _corners(plan, pixels, shape):
        mixed.addcmul_(cells.index_select(0, place).float(), weight)
    return mixed


def _gradient(
    embeddings: Tensor, kept: list[Tensor], plan: Plan, gradients_of: tuple[Tensor, Tensor]
) -> Tensor:
    """Gradient of the embedding, (B, D, h', w') as it is.

    Args:
        embeddings: The embedding.
        kept: Inverse length and distance of each pixel; of each region the vector, the chosen pixel
            and the number of pixels.
        plan: Of the kernels.
        gradients_of: Of the vectors and of the coherence.
    """
    inverse, distance, vectors, chosen, counts = kept
    of_vectors, of_coherence = gradients_of
    of_sums = (of_coherence / counts).contiguous()
    pulled, totals = torch.zeros_like(vectors), torch.zeros_like(of_coherence)
    found = torch.empty_like(embeddings)
    for part, into in gradients(found, plan):
        _backward[part.grid](
            embeddings[part.maps], *part.tensors, inverse[part.pixels], distance[part.pixels],
            vectors, of_sums, into, pulled, totals, *plan.numbers(into), EPSILON, plan.none,
            **plan.constants,
        )  # fmt: skip
    reaction = of_vectors + totals.unsqueeze(1) * vectors - pulled
    values = through_length(reaction, vectors, inverse[chosen])
    cells, shape = _by_cell(found), (found.shape[2], found.shape[3])
    for place, weight in _corners(plan, chosen, shape):
        cells.index_add_(0, place, (values * weight).to(found.dtype))
    return found
