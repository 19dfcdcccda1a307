"""Region means of the upsampled, pixel-wise normalized embedding without upsampling it.

The mean of unit pixel vectors over a region (ViCE (BMVC) section 3.3) reads as if every pixel's
vector had to exist. It need not. A pixel is a bilinear mix z = sum_t w_t Y_t of the four cells
around it, so

- its length follows from inner products of neighbouring cells: |z|^2 = sum_tu w_t w_u <Y_t, Y_u>,
  five per cell instead of D per pixel;
- the mean over region r is a sparse matrix times Y, sum_p sum_t (w_pt / (|z_p| n_r)) Y_t, and its
  entries are shared by all pixels of one region between the same four cells (a *patch*);
- the gradient is the transposed matrix times that of the means, less a symmetric 4x4 stencil
  sum_p (w_pt w_pu <z_p, g> / |z_p|^3) applied to the four cells.

Numbers per pixel are a handful of scalars, and all that is D wide happens at the stride of Y, one
map at a time, so memory stays at that of Y. Where the four cells nearly cancel, the length taken
from inner products would lose digits; those pixels are mixed outright.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vice.regions.fragments import EPSILON, Layout, OneMap


class PooledMeans(torch.autograd.Function):
    """Region means (R, D) of an embedding (B, D, h', w'), see the module's text."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, embeddings: Tensor, numbered: Any, options: dict[str, bool]
    ) -> Tensor:
        """Sums over the patches of each map in turn."""
        layout = Layout(embeddings, numbered, options["align_corners"])
        means = embeddings.new_zeros(numbered.counts.numel(), embeddings.shape[1])
        lengths: dict[int, Tensor] = {}
        for number, fragments in layout.maps(embeddings):
            if options["normalize"]:
                lengths[number] = fragments.inverse_lengths()
            weights = fragments.patch_sum(_scaled(fragments.weights, lengths.get(number)))
            means[fragments.rows] = fragments.times_cells(weights)
        means /= numbered.counts.unsqueeze(1)
        ctx.save_for_backward(embeddings, numbered.counts)
        ctx.layout, ctx.lengths = layout, lengths
        return means

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Applies the transposed matrix and the stencil, map by map."""
        embeddings, counts = ctx.saved_tensors
        with torch.autocast(gradient.device.type, enabled=False):
            input_gradient = torch.zeros_like(embeddings)
            for number, fragments in ctx.layout.maps(embeddings):
                of_sums = gradient[fragments.rows] / counts[fragments.rows, None]
                input_gradient[number] = _gradient(fragments, ctx.lengths.get(number), of_sums)
        return input_gradient, None, None


def _gradient(fragments: OneMap, lengths: Tensor | None, gradient: Tensor) -> Tensor:
    """Gradient (D, h', w') of one map from that of its regions' sums."""
    weights = fragments.patch_sum(_scaled(fragments.weights, lengths))
    of_cells = fragments.transposed(weights, gradient)
    if lengths is not None:
        along = (fragments.weights * fragments.dots(gradient)[fragments.of_pixel]).sum(1)
        # Epsilon: shorter vectors are divided by it, so their length has no gradient.
        factor = torch.where(lengths < 1 / EPSILON, lengths**3 * along, 0)
        fragments.subtract_stencil(of_cells, factor)
    return of_cells.T.view(fragments.shape)


def _scaled(weights: Tensor, lengths: Tensor | None) -> Tensor:
    return weights if lengths is None else lengths[:, None] * weights
