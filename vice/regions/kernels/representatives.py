"""Representatives as kernels: the arithmetic of `vice.regions.representatives`, fused.

Scores of cells are a matrix product, some maps at a time. One kernel takes the pixels' lengths, one
their best scores, of which each region keeps the best pixel, and one their distances from it, of
which each region keeps the sum. The gradient is one more pass, in which a program adds to cells
what its pixels' distances give, and to each region's vector what pulls at it.
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
    columns_of_cells,
    gradients,
    inverse_lengths,
    less_stencil,
    pixels,
    row_of_cells,
    stretch,
    two_cells,
)
from vice.regions.representatives import through_length

#: Numbers of a cell that a program handles at a time where it holds them for every pixel.
_WIDE = 32
#: Lower half of a key: places count down from here, so that of equal scores the first pixel wins.
_LAST_PLACE = 2**31 - 1


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


@triton.jit
def _tile(
    rows, shares_y, shares_x, first_y, first_x, pixels_y, pixels_x, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr,
):  # fmt: skip
    """Places and regions as `pixels` gives them, and shares down and along a program's block."""
    x = tl.program_id(0)
    _, place, row, _ = pixels(
        x, rows, shares_y, shares_x, first_y, first_x, pixels_y, pixels_x, none, SIDE_Y, SIDE_X
    )
    _, _, down = along_axis(first_y, shares_y, tl.program_id(1), tl.arange(0, SIDE_Y))
    _, _, along = along_axis(first_x, shares_x, x, tl.arange(0, SIDE_X))
    return place, row, down, along


@triton.jit
def _four_cells(cells, height, width, d, dim, stride_b, stride_d, stride_y, stride_x):
    """Numbers ``d`` of the four cells around a program's block, in float32; 0 beyond the last."""
    around = row_of_cells(height)
    left, right = columns_of_cells(tl.program_id(0), width)
    c0, c2 = two_cells(cells, around, left, d, dim, stride_b, stride_d, stride_y, stride_x)
    c1, c3 = two_cells(cells, around, right, d, dim, stride_b, stride_d, stride_y, stride_x)
    return c0, c1, c2, c3


@triton.jit
def _mix(four, down, along):
    """Mixes (rows, columns, n) of some numbers of four cells, (n,) each: down, then across."""
    c0, c1, c2, c3 = four
    left = c0[None, :] + down[:, None] * (c2 - c0)[None, :]
    right = c1[None, :] + down[:, None] * (c3 - c1)[None, :]
    return left[:, None, :] + along[None, :, None] * (right - left)[:, None, :]


@triton.jit
def _keep_best(keys, scores, place, row, none, LAST_PLACE: tl.constexpr):
    """Lets each region keep the greatest of its pixels' keys: score, then place."""
    # NaN is better than any number, and both zeros are equal.
    scores = tl.where(scores != scores, float("inf"), tl.where(scores == 0, 0.0, scores))
    bits = scores.to(tl.int32, bitcast=True)
    # Bits of floats are in order as integers once those of negative ones are turned around.
    order = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)
    key = (order << 32) + (LAST_PLACE - place)
    region = tl.min(row)
    while region < none:
        mine = row == region
        worst = tl.full(key.shape, -(2**63), tl.int64)
        tl.atomic_max(keys + region, tl.max(tl.where(mine, key, worst)), sem="relaxed")
        row = tl.where(mine, none, row)
        region = tl.min(row)


@triton.jit(do_not_specialize=["none"])
def _best(
    scores, rows, shares_y, shares_x, first_y, first_x, inverse, best, keys,
    some, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x, none, before,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, WIDE: tl.constexpr,
    FIRST: tl.constexpr, LAST: tl.constexpr, LAST_PLACE: tl.constexpr,
):  # fmt: skip
    place, row, down, along = _tile(
        rows, shares_y, shares_x, first_y, first_x, pixels_y, pixels_x, none, SIDE_Y, SIDE_X
    )
    tops = tl.full((SIDE_Y, SIDE_X, WIDE), float("-inf"), tl.float32)
    for start in range(0, some, WIDE):
        # The last one again does no harm.
        k = tl.minimum(start + tl.arange(0, WIDE), some - 1)
        four = _four_cells(scores, height, width, k, some, stride_b, stride_d, stride_y, stride_x)
        tops = tl.maximum(tops, _mix(four, down, along))
    inside = row < none
    top = tl.reshape(tl.max(tops, 2), (SIDE_Y * SIDE_X,))
    if not FIRST:
        top = tl.maximum(top, tl.load(best + place, mask=inside, other=0.0))
    if LAST:
        top *= tl.load(inverse + place, mask=inside, other=0.0)
        _keep_best(keys, top, before + place, row, none, LAST_PLACE)
    else:
        tl.store(best + place, top, mask=inside)


@triton.jit(do_not_specialize=["none"])
def _distances(
    cells, rows, shares_y, shares_x, first_y, first_x, inverse, vectors, chosen, distance, sums,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x, noise, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    place, row, down, along = _tile(
        rows, shares_y, shares_x, first_y, first_x, pixels_y, pixels_x, none, SIDE_Y, SIDE_X
    )
    inside = row < none
    length = tl.load(inverse + place, mask=inside, other=0.0)
    length_of = tl.reshape(length, (SIDE_Y, SIDE_X, 1))
    own = tl.reshape(tl.where(inside, row, 0), (SIDE_Y, SIDE_X, 1)).to(tl.int64) * dim
    squared = tl.zeros((SIDE_Y, SIDE_X, WIDE), tl.float32)
    for start in range(0, dim, WIDE):
        d = start + tl.arange(0, WIDE)
        four = _four_cells(cells, height, width, d, dim, stride_b, stride_d, stride_y, stride_x)
        some = (d < dim)[None, None, :]
        vector = tl.load(vectors + own + d[None, None, :], mask=some, other=0.0)
        apart = _mix(four, down, along) * length_of - vector
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
        align_corners: bool,
    ) -> tuple[Tensor, Tensor]:
        """Scores, choice and distances."""
        embeddings = as_read(embeddings)
        plan = Plan(embeddings, numbered, align_corners=align_corners)
        count = plan.none
        empty = embeddings.new_zeros(0, embeddings.shape[1], dtype=torch.float32)
        ctx.plan = plan
        if not count:
            ctx.save_for_backward(embeddings)
            return empty, empty[:, 0]
        inverse, distance = empty.new_empty(2, numbered.row.numel())
        (whole,) = plan.parts()
        _lengths[whole.stretches](
            embeddings, *plan.tensors, inverse, *plan.numbers(embeddings), *plan.bounds, count,
            **plan.constants,
        )  # fmt: skip
        chosen = _chosen(embeddings, prototypes, inverse, plan)
        vectors = _mixed(embeddings, plan, chosen) * inverse[chosen, None]
        noise = NOISE * torch.finfo(torch.float32).eps
        coherence = inverse.new_zeros(count)
        _distances[whole.grid](
            embeddings, *plan.tensors, inverse, vectors, chosen, distance, coherence,
            *plan.numbers(embeddings), noise, count, **_wide(plan),
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
            found = _gradient(embeddings, kept, ctx.plan, (of_vectors, of_coherence))
        return found, None, None, None


def _wide(plan: Plan) -> dict[str, int]:
    """Constants of kernels that hold some numbers of every pixel of a block."""
    constants = {name: plan.constants[name] for name in ("SIDE_Y", "SIDE_X")}
    held = constants["SIDE_Y"] * constants["SIDE_X"] * _WIDE
    return {**constants, "WIDE": _WIDE, "num_warps": max(1, min(8, held // 1024))}


def _chosen(embeddings: Tensor, prototypes: Tensor, inverse: Tensor, plan: Plan) -> Tensor:
    """Each region's pixel (R,) with the best score, of equal ones the first, as int64 places.

    Args:
        embeddings: The embedding as the kernels read it.
        prototypes: (K, D).
        inverse: (B*h*w,), inverse lengths of the pixels.
        plan: Of the kernels.
    """
    _, dim, height, width = embeddings.shape
    # Less than any pixel's.
    worst = -(2**63) + _LAST_PLACE
    keys = torch.full((plan.none,), worst, dtype=torch.int64, device=inverse.device)
    several = prototypes.split(dim)
    best = torch.empty_like(inverse) if len(several) > 1 else inverse
    for part in plan.parts(PARTS):
        cells = _by_cell(embeddings[part.maps]).float()
        for number, some in enumerate(several):
            scores = (cells @ some.t()).view(-1, height, width, len(some)).permute(0, 3, 1, 2)
            _best[part.grid](
                scores, *part.tensors, inverse[part.pixels], best[part.pixels], keys,
                *plan.numbers(scores), plan.none, part.pixels.start, **_wide(plan),
                FIRST=number == 0, LAST=number == len(several) - 1, LAST_PLACE=_LAST_PLACE,
            )  # fmt: skip
    return _LAST_PLACE - (keys & 0xFFFFFFFF)


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
        _backward[part.stretches](
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
