"""Region means of many small maps at once, on a CPU.

What `vice.regions.means` computes, by the matrices of `vice.regions.small_maps`; values and
gradient are the same up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vice.regions.fragments import EPSILON
from vice.regions.small_maps import SmallMaps, inverse_lengths


class PooledSmallMeans(torch.autograd.Function):
    """Region means (R, D), as `vice.regions.means.PooledMeans`."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, embeddings: Tensor, numbered: Any, options: dict[str, bool]
    ) -> Tensor:
        """Products of matrices, for some maps at a time."""
        maps = SmallMaps(embeddings, numbered, options["align_corners"])
        sums = embeddings.new_empty(maps.maps * maps.slots, maps.dim)
        lengths: list[Tensor | None] = []
        matrices: list[Tensor] = []
        for part in maps.parts(embeddings):
            squares = part.squared_lengths() if options["normalize"] else None
            lengths.append(None if squares is None else inverse_lengths(*squares))
            matrices.append(part.sums(lengths[-1]))
            sums[part.rows] = part.matrix(matrices[-1]) @ part.cells
        means = sums.index_select(0, maps.slot)
        means /= numbered.counts.unsqueeze(1)
        ctx.save_for_backward(embeddings, numbered.counts)
        ctx.all_maps, ctx.lengths, ctx.matrices = maps, lengths, matrices
        return means

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Applies the transposed matrices and the stencil."""
        embeddings, counts = ctx.saved_tensors
        maps: SmallMaps = ctx.all_maps
        with torch.autocast("cpu", enabled=False):
            of_slots = gradient.new_zeros(maps.maps * maps.slots, maps.dim)
            of_slots[maps.slot] = gradient / counts[:, None]
            found = torch.empty_like(embeddings)
            kept = zip(ctx.lengths, ctx.matrices, strict=True)
            for part, (lengths, matrix) in zip(maps.parts(embeddings), kept, strict=True):
                own = of_slots[part.rows]
                of_cells = part.transposed(matrix, own)
                if lengths is not None:
                    along = part.gathered(part.products(own))
                    # Epsilon: shorter vectors are divided by it, so their length has no gradient.
                    factor = torch.where(lengths < 1 / EPSILON, lengths**3 * along, 0)
                    part.subtract_stencil(of_cells, factor)
                found[part.maps] = of_cells.view(part.grid.shape).permute(0, 3, 1, 2)
        return found, None, None
