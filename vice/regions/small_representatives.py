"""Representatives of many small maps at once, on a CPU.

`vice.regions.representatives` mixes D numbers for each pixel to learn its distance from its
region's vector v. Of small maps distances come out of inner products instead,

    |p - v|^2 = |p|^2 - 2 <p, v> + |v|^2,

of which <z, v> is mixed from the cells' own products with v, as lengths are from theirs. In float32
that difference would lose the digits of small distances, so all of it is computed in float64, and
an embedding that is float64 itself is left to the other way. Scores stay in float32: they decide
which pixel is taken.

Of few pixels all scores are mixed (branch and bound). The best of a mix is at most the mix of the
bests, max_k sum_j b_j s_jk <= sum_j b_j max_k s_jk, and equal to it where one prototype is the best
of all four cells. So a region's best such pixel is known from one number a cell, and but for those
whose bound comes up to it no other pixel can be the best of the region.

The matrices are those of `vice.regions.small_maps`; values and gradient are the same up to
rounding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vice.regions.fragments import EPSILON, NOISE, STRIP
from vice.regions.representatives import through_length
from vice.regions.small_maps import Part, SmallMaps, fits, inverse_lengths, places

#: Of pixels whose scores are asked for, one in so many: of more it is quicker to mix those of all.
FEW = 4


def representatives_fit(embeddings: Tensor, numbered: Any) -> bool:
    """Whether maps are small, and less precise than what they are computed in."""
    return embeddings.dtype == torch.float32 and fits(embeddings, numbered)


class _Kept(NamedTuple):
    """What a way back needs: pixels chosen by regions, inverse lengths and distances (m, h*w)."""

    chosen: Tensor
    lengths: Tensor
    distance: Tensor


class SmallRepresentatives(torch.autograd.Function):
    """Representatives (R, D) and coherence (R,), as `vice.regions.representatives`'s, in float32.

    ``options``: as there.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        embeddings: Tensor,
        prototypes: Tensor,
        numbered: Any,
        options: dict[str, bool],
    ) -> tuple[Tensor, Tensor]:
        """Scores, choice and distances, for some maps at a time."""
        maps = SmallMaps(embeddings, numbered, options["align_corners"], torch.float64)
        vectors = embeddings.new_zeros(maps.maps * maps.slots, maps.dim)
        sums = embeddings.new_zeros(len(vectors), dtype=torch.float64)
        kept = []
        for part in maps.parts(embeddings, torch.float64):
            rows = part.rows
            own = maps.slot[(maps.slot >= rows.start) & (maps.slot < rows.stop)] - rows.start
            slots = part.slots()
            squares, longest = part.squared_lengths()
            lengths = inverse_lengths(squares, longest)
            chosen = _choose(part, prototypes, lengths.float().flatten(), slots)[own]
            found = squares.new_zeros(rows.stop - rows.start, maps.dim)
            found[own] = part.mix(part.cells, chosen) * lengths.flatten()[chosen, None]
            vectors[rows] = found
            distance = _distances(part, (lengths, squares), found, slots)
            # Rounding: as in the other way, the chosen pixel is itself.
            distance.view(-1)[chosen] = 0
            sums[rows] = torch.bincount(slots, distance.flatten(), rows.stop - rows.start)
            kept.append(_Kept(chosen, lengths.float(), distance.float()))
        coherence = sums[maps.slot] / numbered.counts
        ctx.save_for_backward(embeddings, vectors, numbered.counts)
        ctx.all_maps, ctx.kept, ctx.through = maps, kept, options["through"]
        return vectors[maps.slot], coherence.float()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, of_vectors: Tensor, of_coherence: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The transposed matrices and the stencil, for some maps at a time."""
        embeddings, vectors, counts = ctx.saved_tensors
        maps: SmallMaps = ctx.all_maps
        with torch.autocast("cpu", enabled=False):
            of_slots, of_sums = torch.zeros_like(vectors), vectors.new_zeros(len(vectors))
            of_slots[maps.slot] = of_vectors
            of_sums[maps.slot] = of_coherence / counts
            found = torch.empty_like(embeddings)
            for part, kept in zip(maps.parts(embeddings), ctx.kept, strict=True):
                values = vectors[part.rows], of_slots[part.rows], of_sums[part.rows]
                of_cells = _gradient(part, kept, values, through=ctx.through)
                found[part.maps] = of_cells.view(part.grid.shape).permute(0, 3, 1, 2)
        return found, None, None, None


def _choose(part: Part, prototypes: Tensor, lengths: Tensor, slots: Tensor) -> Tensor:
    """The pixel (m * slots,) with the best score of each slot; any where none is to be had.

    Args:
        part: Some maps.
        prototypes: (K, D) float32.
        lengths: (m * h*w,) float32, inverse lengths of the mixes.
        slots: (m * h*w,), slot of each pixel.
    """
    of_cells = part.cells.float() @ prototypes.t()
    best, which = of_cells.max(1)
    corners = which[part.patches.column][part.patches.entries.long()]
    known = (corners == corners[0]).all(0).index_select(0, part.patches.of_pixel)
    bound = part.mixed(best.view(part.grid.shape[:3])).flatten() * lengths
    # Rounding: what is mixed in two ways differs by as much at most.
    slack = float(best.abs().max()) * 8 * torch.finfo(best.dtype).eps

    def scores(pixels: Tensor) -> Tensor:
        parts = pixels.split(max(1, STRIP // len(prototypes)))
        found = [part.mix(of_cells, some).amax(1) for some in parts]
        return torch.cat(found) * lengths[pixels]

    rows = len(part.patches.bounds) - 1
    value = bound.masked_fill(~known, -torch.inf)
    highest = _first_best(slots, bound, rows).clamp_(max=len(bound) - 1)
    least = scores(highest).scatter_reduce_(0, slots, value, "amax")
    # Of pixels without a region none is asked for.
    least.view(len(part.grid), -1)[:, -1] = torch.inf
    below = torch.add(bound, lengths, alpha=slack) < least.index_select(0, slots)
    # NaN is below nothing, and comes out again.
    pixels = places((below | known).logical_not_())
    if len(pixels) * FEW > len(bound):
        value = _all_scores(part, of_cells).flatten().mul_(lengths)
    else:
        value[pixels] = scores(pixels)
    return _first_best(slots, value, rows)


def _all_scores(part: Part, of_cells: Tensor) -> Tensor:
    """Best score (m, h, w) of each pixel's mix of its cells' scores (m * h'*w', K)."""
    y, x = part.whole.rows, part.whole.columns
    down, across = y.share.float()[:, None, None], x.share.float()[:, None]
    grid = of_cells.unflatten(0, part.grid.shape[:3]).unbind(1)

    def mixed_across(cell: int) -> Tensor:
        left, right = (grid[cell].index_select(1, index) for index in (x.low, x.high))
        return torch.lerp(left, right, across)

    best = down.new_empty(len(part.grid), len(y.low), len(x.low))
    step = max(1, STRIP // (grid[0][:, 0].numel() * len(x.low)))
    first, near = 0, (-1, grid[0])
    # Broadcasting: rows of pixels between two rows of cells read the same two, and copy neither.
    for cell, count in enumerate(torch.bincount(y.low).tolist()):
        if not count:
            continue
        above = near[1] if near[0] == cell else mixed_across(cell)
        near = cell + 1, mixed_across(min(cell + 1, len(grid) - 1))
        last = first + count
        for start in range(first, last, step):
            some = slice(start, min(start + step, last))
            mixed = torch.lerp(above.unsqueeze(1), near[1].unsqueeze(1), down[some])
            torch.amax(mixed, 3, out=best[:, some])
        first = last
    return best


def _first_best(slots: Tensor, scores: Tensor, rows: int) -> Tensor:
    """As `vice.regions.representatives.first_best`, where to find a few pixels costs no waiting."""
    if scores.max().isnan():
        scores = torch.where(scores.isnan(), torch.inf, scores)
    top = scores.new_full((rows,), -torch.inf).scatter_reduce_(0, slots, scores, "amax")
    pixels = places(scores == top.index_select(0, slots))
    first = pixels.new_full((rows,), len(scores))
    return first.scatter_reduce_(0, slots[pixels], pixels, "amin")


def _distances(
    part: Part, of_pixels: tuple[Tensor, Tensor], vectors: Tensor, slots: Tensor
) -> Tensor:
    """Distance (m, h*w) of each pixel to its region's vector; 0 where rounding is all there is.

    Of pixels without a region they are of no use to anyone.

    Args:
        part: Some maps.
        of_pixels: (m, h*w) each, inverse and squared lengths of their mixes.
        vectors: (m * slots, D) of their regions, 0 for the slot of no region.
        slots: (m * h*w,), slot of each pixel.
    """
    lengths, squares = of_pixels
    along = part.gathered(part.products(vectors)).mul_(lengths)
    own = vectors.square().sum(1)[slots].view_as(lengths)
    # Length: 1, but for what is shorter than epsilon, or has none.
    distance = (squares * lengths.square() - 2 * along + own).clamp_(min=0).sqrt_()
    noise = NOISE * torch.finfo(torch.float32).eps
    return distance.masked_fill_(distance < noise, 0)


def _gradient(
    part: Part, kept: _Kept, values: tuple[Tensor, Tensor, Tensor], *, through: bool
) -> Tensor:
    """Gradient (m, h'*w', D) of the cells of some maps.

    Args:
        part: The maps.
        kept: Of the way forward.
        values: Of each slot the vector, the vector's gradient, and that of the sum of distances.
        through: Whether distances pull at their representative, too.
    """
    vectors, of_vectors, of_sums = values
    chosen, lengths, distance = kept
    slots = part.slots()
    pull = torch.where(distance > 0, of_sums[slots].view_as(distance) / distance, 0)
    # Precision: differences were taken on the way forward, so sums of float32 do from here on.
    entries = part.sums(pull * lengths).float()
    of_cells = part.transposed(entries, vectors.neg())
    own = vectors.square().sum(1)[slots].view_as(distance)
    # Gradient: p of unit length gives c p - v; p below epsilon is divided by it and gives p - v.
    closeness = torch.where(lengths < 1 / EPSILON, (1 + own - distance.square()) / 2, 1)
    part.subtract_stencil(of_cells, -pull * lengths.square() * closeness)
    reaction = of_vectors
    if through:
        total = pull.new_zeros(len(vectors)).index_add_(0, slots, pull.flatten())
        drawn = part.matrix(entries) @ part.cells
        reaction = of_vectors + total.unsqueeze(1) * vectors - drawn
    taken = slots[chosen]
    share = through_length(reaction[taken], vectors[taken], lengths.flatten()[chosen])
    part.add_at(of_cells, chosen, share)
    return of_cells
