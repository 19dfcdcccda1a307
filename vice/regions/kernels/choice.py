"""The pixel that stands for a region, as kernels: which it is, its vector, and its gradient.

Scores of cells are a matrix product, some maps at a time. One kernel takes the pixels' best scores,
of which each region keeps the best pixel; two more go from regions to their pixels' four cells.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from vice.regions.fragments import EPSILON
from vice.regions.kernels.blocks import PARTS, Part, Plan, add_to_cells, two_cells
from vice.regions.kernels.tiles import constants_of, four_cells, mix, tile

#: Prototypes whose scores a program holds for every pixel of a block.
_WIDE = 32
#: Lower half of a key: places count down from here, so that of equal scores the first pixel wins.
_LAST_PLACE = 2**31 - 1


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


@triton.jit(do_not_specialize=["none", "before"])
def _best(
    scores, rows, shares_y, shares_x, first_y, first_x, inverse, best, keys,
    some, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x, none, before,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, WIDE: tl.constexpr,
    FIRST: tl.constexpr, LAST: tl.constexpr, LAST_PLACE: tl.constexpr,
):  # fmt: skip
    place, row, down, along = tile(
        rows, shares_y, shares_x, first_y, first_x, pixels_y, pixels_x, none, SIDE_Y, SIDE_X
    )
    tops = tl.full((SIDE_Y, SIDE_X, WIDE), float("-inf"), tl.float32)
    for start in range(0, some, WIDE):
        # The last one again does no harm.
        k = tl.minimum(start + tl.arange(0, WIDE), some - 1)
        four = four_cells(scores, height, width, k, some, stride_b, stride_d, stride_y, stride_x)
        tops = tl.maximum(tops, mix(four, down, along))
    inside = row < none
    top = tl.reshape(tl.max(tops, 2), (SIDE_Y * SIDE_X,))
    if not FIRST:
        top = tl.maximum(top, tl.load(best + place, mask=inside, other=0.0))
    if LAST:
        top *= tl.load(inverse + place, mask=inside, other=0.0)
        _keep_best(keys, top, before + place, row, none, LAST_PLACE)
    else:
        tl.store(best + place, top, mask=inside)


@triton.jit
def _corners(
    place, low_y, high_y, shares_y, low_x, high_x, shares_x, pixels_y, pixels_x
):  # fmt: skip
    """Map and rows of the cells around a pixel, their columns, and its shares down and along."""
    y, x = place // pixels_x % pixels_y, place % pixels_x
    around = (place // (pixels_y * pixels_x), tl.load(low_y + y), tl.load(high_y + y))
    columns = (tl.load(low_x + x), tl.load(high_x + x))
    return around, columns, tl.load(shares_y + y), tl.load(shares_x + x)


@triton.jit
def _vectors(
    cells, low_y, high_y, shares_y, low_x, high_x, shares_x, inverse, keys, chosen, vectors,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x,
    DIM: tl.constexpr, LAST_PLACE: tl.constexpr,
):  # fmt: skip
    region, d = tl.program_id(0).to(tl.int64), tl.arange(0, DIM)
    place = LAST_PLACE - (tl.load(keys + region) & 0xFFFFFFFF)
    tl.store(chosen + region, place)
    around, columns, down, along = _corners(
        place, low_y, high_y, shares_y, low_x, high_x, shares_x, pixels_y, pixels_x
    )
    left, right = columns
    c0, c2 = two_cells(cells, around, left, d, dim, stride_b, stride_d, stride_y, stride_x)
    c1, c3 = two_cells(cells, around, right, d, dim, stride_b, stride_d, stride_y, stride_x)
    mixed = (1 - down) * ((1 - along) * c0 + along * c1) + down * ((1 - along) * c2 + along * c3)
    tl.store(vectors + region * dim + d, mixed * tl.load(inverse + place), mask=d < dim)


@triton.jit(do_not_specialize=["before"])
def _to_chosen(
    found, low_y, high_y, shares_y, low_x, high_x, shares_x, inverse, chosen, vectors,
    of_vectors, pulled, totals,
    dim, height, width, pixels_y, pixels_x,
    stride_b, stride_d, stride_y, stride_x,
    epsilon, before, count,
    DIM: tl.constexpr, THROUGH: tl.constexpr,
):  # fmt: skip
    region, d = tl.program_id(0).to(tl.int64), tl.arange(0, DIM)
    place = tl.load(chosen + region) - before
    inside = (place >= 0) & (place < count)
    some = (d < dim) & inside
    place = tl.where(inside, place, 0)
    around, columns, down, along = _corners(
        place, low_y, high_y, shares_y, low_x, high_x, shares_x, pixels_y, pixels_x
    )
    left, right = columns
    own = region * dim + d
    vector = tl.load(vectors + own, mask=some, other=0.0)
    reaction = tl.load(of_vectors + own, mask=some, other=0.0)
    if THROUGH:
        reaction += tl.load(totals + region) * vector - tl.load(pulled + own, mask=some, other=0.0)
    length = tl.load(inverse + place)
    # The gradient of z from that of z times its inverse length.
    along_it = tl.where(length < 1 / epsilon, tl.sum(reaction * vector), 0.0)
    reaction = length * (reaction - along_it * vector)
    upper, lower = (1 - down) * reaction, down * reaction
    add_to_cells(
        found, (1 - along) * upper, (1 - along) * lower, around, left, d, some,
        stride_b, stride_d, stride_y, stride_x,
    )  # fmt: skip
    add_to_cells(
        found, along * upper, along * lower, around, right, d, some,
        stride_b, stride_d, stride_y, stride_x,
    )  # fmt: skip


def choose(
    embeddings: Tensor, prototypes: Tensor, inverse: Tensor, plan: Plan
) -> tuple[Tensor, Tensor]:
    """Each region's pixel with the best score, of equal ones the first, and its unit vector.

    Args:
        embeddings: (B, D, h', w') as the kernels read it.
        prototypes: (K, D).
        inverse: (B*h*w,), inverse lengths of the pixels.
        plan: Of the kernels.

    Returns:
        int64 places (R,) among all pixels, and float32 vectors (R, D).
    """
    dim = embeddings.shape[1]
    keys = _keys(embeddings, prototypes, inverse, plan)
    chosen = torch.empty_like(keys)
    vectors = inverse.new_empty(plan.none, dim)
    _vectors[(plan.none,)](
        embeddings, *_axes(plan), inverse, keys, chosen, vectors, *plan.numbers(embeddings),
        **_whole_cells(plan), LAST_PLACE=_LAST_PLACE,
    )  # fmt: skip
    return chosen, vectors


def add_to_chosen(
    found: Tensor,
    part: Part,
    plan: Plan,
    kept: tuple[Tensor, ...],
    own: tuple[Tensor, ...],
    *,
    through: bool,
) -> None:
    """Adds to cells of some maps what their regions' chosen pixels get.

    Args:
        found: Float32 gradient of the maps' cells, added to in place.
        part: Which maps.
        plan: Of the kernels.
        kept: Inverse length of each of all pixels; of each region its pixel and its vector.
        own: Of each region the gradient of its vector, the sum of its pixels' unit vectors, each
            weighted by its pull, and the sum of those pulls.
        through: Whether these pulls count; if not, they are not read.
    """
    inverse, *of_regions = kept
    count = part.pixels.stop - part.pixels.start
    _to_chosen[(plan.none,)](
        found, *_axes(plan), inverse[part.pixels], *of_regions, *own, *plan.numbers(found),
        EPSILON, part.pixels.start, count, **_whole_cells(plan), THROUGH=through,
    )  # fmt: skip


def _keys(embeddings: Tensor, prototypes: Tensor, inverse: Tensor, plan: Plan) -> Tensor:
    """Of each region the greatest of its pixels' keys (R,), see `_keep_best`."""
    _, dim, height, width = embeddings.shape
    # Less than any pixel's.
    worst = -(2**63) + _LAST_PLACE
    keys = torch.full((plan.none,), worst, dtype=torch.int64, device=inverse.device)
    several = prototypes.split(dim)
    best = torch.empty_like(inverse) if len(several) > 1 else inverse
    for part in plan.parts(PARTS):
        cells = by_cell(embeddings[part.maps]).float()
        for number, some in enumerate(several):
            scores = (cells @ some.t()).view(-1, height, width, len(some)).permute(0, 3, 1, 2)
            _best[part.grid](
                scores, *part.tensors, inverse[part.pixels], best[part.pixels], keys,
                *plan.numbers(scores), plan.none, part.pixels.start, **constants_of(plan, _WIDE),
                FIRST=number == 0, LAST=number == len(several) - 1, LAST_PLACE=_LAST_PLACE,
            )  # fmt: skip
    return keys


def _axes(plan: Plan) -> tuple[Tensor, ...]:
    """Cells before and after each pixel of an axis and its share of the latter, of both axes."""
    return tuple(part for axis in plan.axes for part in (axis.low, axis.high, axis.share))


def _whole_cells(plan: Plan) -> dict[str, int]:
    return {name: plan.constants[name] for name in ("DIM", "num_warps")}


def by_cell(values: Tensor) -> Tensor:
    """What lies in memory with a cell's numbers side by side, (B, D, h', w'), as (B*h'*w', D)."""
    return values.permute(0, 2, 3, 1).view(-1, values.shape[1])
