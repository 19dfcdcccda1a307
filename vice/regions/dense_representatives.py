"""Representatives of many small maps at once, on a CPU.

`vice.regions.representatives` mixes D numbers for each pixel to learn its distance from its
region's vector v. Of small maps distances come out of inner products instead,

    |p - v|^2 = |p|^2 - 2 <p, v> + |v|^2,

of which <z, v> is mixed from the cells' own products with v, as lengths are from theirs. In float32
that difference would lose the digits of small distances, so all of it is computed in float64, and
an embedding that is float64 itself is left to the other way. Scores stay in float32: they decide
which pixel is taken, and which way is faster is decided by how many there are. The matrices are
those of `vice.regions.dense_means`; values and gradient are the same up to rounding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vice.regions.dense_means import Part, SmallMaps, fits, inverse_lengths
from vice.regions.fragments import EPSILON, NOISE, STRIP
from vice.regions.representatives import first_best, through_length

#: Most entries of a dense matrix, in pixels of its map: the other way is dearer than that of means.
ENTRIES = 16


def representatives_fit(embeddings: Tensor, numbered: Any) -> bool:
    """Whether maps are small, and less precise than what they are computed in."""
    return embeddings.dtype == torch.float32 and fits(embeddings, numbered, ENTRIES)


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
            scores = _best_scores(part, prototypes).mul_(lengths)
            chosen = first_best(slots, scores.flatten(), rows.stop - rows.start)[own]
            found = squares.new_zeros(rows.stop - rows.start, maps.dim)
            found[own] = part.mix(chosen) * lengths.flatten()[chosen, None]
            vectors[rows] = found
            distance = _distances(part, (lengths, squares), found, slots)
            # Rounding: as in the other way, the chosen pixel is itself.
            distance.view(-1)[chosen] = 0
            sums[rows].index_add_(0, slots, distance.flatten())
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


def _best_scores(part: Part, prototypes: Tensor) -> Tensor:
    """Best score (m, h*w) of each pixel's mix, not divided by its length."""
    y, x = part.whole.rows, part.whole.columns
    down, across = y.share.float()[:, None, None], x.share.float()[:, None]
    grid = (part.cells.float() @ prototypes.t()).unflatten(1, part.whole.grid).unbind(1)

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
    return best.flatten(1)


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
    products = vectors.view(len(part.grid), -1, part.grid.shape[3]) @ part.cells.mT
    along = part.gathered(products) * lengths
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
    matrix = part.matrix(pull * lengths).float()
    of_cells = matrix.mT @ vectors.neg().view(*matrix.shape[:2], -1)
    own = vectors.square().sum(1)[slots].view_as(distance)
    # Gradient: p of unit length gives c p - v; p below epsilon is divided by it and gives p - v.
    closeness = torch.where(lengths < 1 / EPSILON, (1 + own - distance.square()) / 2, 1)
    part.subtract_stencil(of_cells, -pull * lengths.square() * closeness)
    reaction = of_vectors
    if through:
        total = pull.new_zeros(len(vectors)).index_add_(0, slots, pull.flatten())
        drawn = (matrix @ part.cells).flatten(0, 1)
        reaction = of_vectors + total.unsqueeze(1) * vectors - drawn
    taken = slots[chosen]
    share = through_length(reaction[taken], vectors[taken], lengths.flatten()[chosen])
    part.add_at(of_cells, chosen, share)
    return of_cells
