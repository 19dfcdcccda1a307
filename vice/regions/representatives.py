"""Region representatives: the pixel that stands for a region, and its pixels' distance from it.

A pixel p = z / |z| of the upsampled embedding is scored by its best prototype; the region's first
pixel with the best score, v, stands for it (the authors' high-res configs). What
`vice.regions.means` says about means holds here too:

- scores are linear in the embedding: they are taken at the stride of Y, mixed, and divided by the
  pixel's length, some prototypes at a time;
- distances |p - v| need p itself, which is mixed a strip at a time and not kept: differences of
  inner products would lose the digits of small distances;
- the gradient of sum_p a_p |p - v|^2 / 2, with a_p = g / |p - v| held fixed, is that of the sum of
  distances: c_p p - v along p's length removed, c_p = <p, v>, so a stencil and a transposed
  sparse matrix again;
- v is a pixel itself, and whether distances move it is a choice. ``"constant"``: it is their fixed
  target (the authors' criterion); ``"through"``: the gradient with respect to v, the weighted sum
  of v - p, a sparse matrix times Y, goes to that pixel as well. Values are the same, and so is the
  gradient of whatever else v is used for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vice.regions.fragments import EPSILON, NOISE, Layout, OneMap

#: What of the coherence's gradient reaches the representatives: nothing, or all of it.
COHERENCE_GRADIENTS = ("constant", "through")


class Representatives(torch.autograd.Function):
    """Representatives (R, D) and coherence (R,) of an embedding (B, D, h', w').

    ``options``: ``align_corners`` as in `torch.nn.functional.interpolate`, and ``through``, whether
    the gradient of the coherence reaches the representatives.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        embeddings: Tensor,
        prototypes: Tensor,
        numbered: Any,
        options: dict[str, bool],
    ) -> tuple[Tensor, Tensor]:
        """Scores, choice and distances of each map in turn."""
        layout = Layout(embeddings, numbered, options["align_corners"])
        vectors = embeddings.new_zeros(numbered.counts.numel(), embeddings.shape[1])
        coherence = embeddings.new_zeros(numbered.counts.numel())
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        for number, fragments in layout.maps(embeddings):
            lengths = fragments.inverse_lengths()
            scores = _best_scores(fragments, prototypes) * lengths
            chosen = first_best(
                fragments.pixel_rows(), scores, fragments.rows.stop - fragments.rows.start
            )
            vectors[fragments.rows] = _mixed(fragments, chosen) * lengths[chosen, None]
            distance = _distances(fragments, lengths, vectors[fragments.rows])
            # Rounding: mixed in two ways, the chosen pixel would differ from itself.
            distance[chosen] = 0
            coherence[fragments.rows].index_add_(0, fragments.pixel_rows(), distance)
            kept[number] = (chosen, distance)
        coherence /= numbered.counts
        ctx.save_for_backward(embeddings, vectors, numbered.counts)
        ctx.layout, ctx.kept, ctx.through = layout, kept, options["through"]
        return vectors, coherence

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, of_vectors: Tensor, of_coherence: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Stencil and sparse matrices of each map in turn."""
        embeddings, vectors, counts = ctx.saved_tensors
        with torch.autocast(of_vectors.device.type, enabled=False):
            input_gradient = torch.zeros_like(embeddings)
            for number, fragments in ctx.layout.maps(embeddings):
                of_sums = of_coherence[fragments.rows] / counts[fragments.rows]
                map_values = (vectors[fragments.rows], of_vectors[fragments.rows], of_sums)
                input_gradient[number] = _gradient(
                    fragments, ctx.kept[number], map_values, through=ctx.through
                )
        return input_gradient, None, None, None


def _best_scores(fragments: OneMap, prototypes: Tensor) -> Tensor:
    """Best score (P,) of each pixel's mix, not divided by its length."""
    best = fragments.weights.new_full((fragments.pixels,), -torch.inf)
    # Memory: a chunk is no wider than the embedding, however many prototypes there are.
    for some in prototypes.split(fragments.shape[0]):
        for part, mixed in fragments.strips(fragments.cells @ some.t()):
            best[part] = torch.maximum(best[part], mixed.amax(1))
    return best[fragments.inside]


def first_best(row: Tensor, scores: Tensor, regions: int) -> Tensor:
    """The first pixel, in scan order, with the best score of each region.

    Args:
        row: (P,) int64, region of each pixel.
        scores: (P,) float; NaN is better than any number, so that it comes out again.
        regions: How many there are; each has a pixel, or no place is said for it.

    Returns:
        (regions,) int64.
    """
    scores = torch.where(scores.isnan(), torch.inf, scores)
    top = scores.new_full((regions,), -torch.inf).scatter_reduce_(0, row, scores, "amax")
    index = torch.arange(len(scores), dtype=torch.int32, device=row.device)
    index = torch.where(scores == top[row], index, len(scores))
    first = index.new_full((regions,), len(scores)).scatter_reduce_(0, row, index, "amin")
    return first.long()


def _mixed(fragments: OneMap, pixels: Tensor) -> Tensor:
    parts = fragments.chunks(pixels, fragments.shape[0])
    return torch.cat([fragments.mix(fragments.cells, part) for part in parts])


def _distances(fragments: OneMap, lengths: Tensor, vectors: Tensor) -> Tensor:
    """Distance (P,) of each pixel to its region's vector; 0 where rounding is all there is."""
    # Ignored pixels are mixed as well; zero times their mix is compared with any vector.
    row = torch.zeros(fragments.pixels, dtype=torch.long, device=lengths.device)
    row[fragments.inside] = fragments.pixel_rows()
    scale, distance = lengths.new_zeros(2, fragments.pixels)
    scale[fragments.inside] = lengths
    for part, mixed in fragments.strips(fragments.cells):
        apart = mixed.mul_(scale[part, None]).sub_(vectors.index_select(0, row[part]))
        distance[part] = torch.linalg.vector_norm(apart, dim=1)
    distance = distance[fragments.inside]
    noise = NOISE * torch.finfo(distance.dtype).eps
    return torch.where(distance < noise, 0, distance)


def _gradient(
    fragments: OneMap,
    kept: tuple[Tensor, Tensor],
    map_values: tuple[Tensor, Tensor, Tensor],
    *,
    through: bool,
) -> Tensor:
    """Gradient (D, h', w') of one map.

    Args:
        fragments: Of the map.
        kept: Chosen pixels, distance of each pixel.
        map_values: Of each of its regions the vector, the vector's gradient, and that of the sum of
            distances.
        through: Whether distances pull at their representative, too.
    """
    chosen, distance = kept
    # Recomputed: cheaper than to keep it.
    lengths = fragments.inverse_lengths()
    vectors, of_vectors, of_sums = map_values
    row = fragments.pixel_rows()
    pull = torch.where(distance > 0, of_sums[row] / distance, 0)
    weights = fragments.patch_sum((pull * lengths).unsqueeze(1) * fragments.weights)
    of_cells = fragments.transposed(weights, -vectors)
    # Gradient: p of unit length gives c p - v; p below epsilon is divided by it and gives p - v.
    closeness = (1 + vectors.square().sum(1)[row] - distance.square()) / 2
    closeness = torch.where(lengths < 1 / EPSILON, closeness, 1)
    fragments.subtract_stencil(of_cells, -pull * lengths.square() * closeness)
    reaction = of_vectors
    if through:
        total = pull.new_zeros(len(vectors)).index_add_(0, row, pull)
        reaction = of_vectors + total.unsqueeze(1) * vectors - fragments.times_cells(weights)
    _add_at(fragments, of_cells, chosen, through_length(reaction, vectors, lengths[chosen]))
    return of_cells.T.view(fragments.shape)


def through_length(gradient: Tensor, unit: Tensor, lengths: Tensor) -> Tensor:
    """Gradient of z from that of z times its inverse length, (N, D) each and (N,)."""
    along = (gradient * unit).sum(1)
    along = torch.where(lengths < 1 / EPSILON, along, 0)
    return lengths.unsqueeze(1) * (gradient - along.unsqueeze(1) * unit)


def _add_at(fragments: OneMap, of_cells: Tensor, pixels: Tensor, values: Tensor) -> None:
    """Adds values (N, D) of some pixels to their four cells, in place."""
    width = fragments.shape[0]
    for part, some in zip(
        fragments.chunks(pixels, width), fragments.chunks(values, width), strict=True
    ):
        spread = fragments.weights[part].unsqueeze(2) * some.unsqueeze(1)
        corners = fragments.corners(fragments.block[fragments.of_pixel[part]])
        of_cells.index_add_(0, corners.flatten(), spread.flatten(0, 1))
