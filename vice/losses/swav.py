"""Swapped prediction over regions: the dense SwAV loss of ViCE."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vice.assignment import perplexity, sinkhorn
from vice.errors import OptionError
from vice.losses.queue import RegionQueue
from vice.regions import (
    COHERENCE_GRADIENTS,
    MutualRegions,
    pool_regions,
    representative_regions,
)
from vice.runtime.collectives import all_reduce_, world_size
from vice.runtime.device import Arriving, HostBuffers

REDUCTIONS = ("image", "region")
REGION_VECTORS = ("pixel", "region", "representative")


def swapped_prediction(
    assignment: Tensor, scores: Tensor, image: Tensor, num_images: int, temperature: float = 0.1
) -> Tensor:
    """Cross-entropy between view 0's assignments and the other views' predictions, per image.

    ViCE (BMVC) equation 3, before the mean over images.

    Args:
        assignment: (I, K), rows sum to 1; no gradient flows through it.
        scores: (M-1, I, K), scores of the same regions in the other views.
        image: (I,) int64, image of each region.
        num_images: N.
        temperature: tau of the softmax.

    Returns:
        Sums over the regions and views of each image (N,).
    """
    log_p = F.log_softmax(scores / temperature, dim=-1)
    per_region = -(assignment.unsqueeze(0) * log_p).sum(dim=-1).sum(dim=0)
    return per_region.new_zeros(num_images).index_add(0, image, per_region)


class DenseSwAVLoss(HostBuffers):
    """Swapped prediction between the regions of view 0 and those of the other views.

    Assignments come from Sinkhorn-Knopp over view 0 of all images on all ranks, plus the queue.
    The value on each rank is scaled so that its mean over the ranks (which is what distributed
    data parallel takes of the gradients) is the loss of the whole batch, with the true global
    counts: 1, 2 or 4 ranks give the same loss and gradient for the same images.

    Args:
        num_views: Views an image, M >= 2.
        num_prototypes: K.
        dim: Width D of the embedding.
        temperature: tau of the predictions.
        epsilon: Entropy weight of Sinkhorn-Knopp.
        iterations: Alternations of Sinkhorn-Knopp.
        queue_length: Vectors in this rank's queue; 0 for none.
        queue_start: First iteration (counted by this module) whose assignment uses the queue.
        reduction: ``"image"``: mean over an image's regions, then over images (papers).
            ``"region"``: mean over all regions (authors' release). Images without regions
            contribute nothing and are not counted.
        region_vector: ``"pixel"`` (papers), ``"region"`` or ``"representative"`` (authors'
            configs); see `vice.regions.pool`. The last adds the coherence loss: the total is the
            mean of the two.
        coherence_gradient: ``"constant"`` (authors' criterion) or ``"through"``; see
            `vice.regions.representative_regions`. Counts with representatives only.
        align_corners: How embeddings are upsampled to the views' size.
        group: Process group; None is the default group.

    Raises:
        ValueError: An option is not one of its values, or fewer than two views.

    Attributes:
        health: After each call, plain floats: ``loss``, ``loss_over_lnk``, ``perplexity``
            (prototypes in effective use, 1..K, over all ranks), ``regions_per_view``,
            ``discarded_share`` (share of view pixels in no mutual region), ``queue_length``,
            ``queue_age``.

    Example:
        Two views of one image, each of two pixels that are a region each:

        >>> import torch
        >>> from vice.losses import DenseSwAVLoss
        >>> loss = DenseSwAVLoss(num_views=2, num_prototypes=2, dim=2)
        >>> view, prototypes = torch.eye(2).reshape(1, 2, 1, 2), torch.eye(2)
        >>> regions = torch.tensor([[[0, 1]], [[0, 1]]])
        >>> round(float(loss(torch.cat([view, view]), prototypes, regions)), 3)  # views agree
        0.0
        >>> round(float(loss(torch.cat([view, view.flip(3)]), prototypes, regions)), 3)
        10.0
        >>> loss.health["perplexity"], loss.health["regions_per_view"]
        (2.0, 2.0)
    """

    iteration: Tensor
    on_host = ("iteration",)

    def __init__(
        self,
        num_views: int,
        num_prototypes: int,
        dim: int,
        *,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        queue_length: int = 0,
        queue_start: int = 313,
        reduction: str = "image",
        region_vector: str = "pixel",
        coherence_gradient: str = "constant",
        align_corners: bool = False,
        group: Any = None,
    ) -> None:
        super().__init__()
        if num_views < 2:
            raise ValueError(f"num_views must be at least 2, not {num_views}")
        for name, value, known in (
            ("reduction", reduction, REDUCTIONS),
            ("region_vector", region_vector, REGION_VECTORS),
            ("coherence_gradient", coherence_gradient, COHERENCE_GRADIENTS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, not {value!r}")
        self.num_views = num_views
        self.num_prototypes = num_prototypes
        self.temperature = temperature
        self.epsilon = epsilon
        self.iterations = iterations
        self.queue_start = queue_start
        self.reduction = reduction
        self.region_vector = region_vector
        self.coherence_gradient = coherence_gradient
        self.align_corners = align_corners
        self.group = group
        self.queue = RegionQueue(queue_length, dim, group)
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))
        self._health: dict[str, float] = {}
        self._sums: Arriving | None = None

    @property
    def health(self) -> dict[str, float]:
        """Of the last call; reading it waits until that has been computed."""
        if self._sums is not None:
            self._health = self._read_health(self._sums.read())
            self._sums = None
        return self._health

    def forward(
        self, embeddings: Tensor, prototypes: Tensor, regions: Tensor | MutualRegions
    ) -> Tensor:
        """The loss of one batch.

        Args:
            embeddings: (M*N, D, h', w') float, view-major.
            prototypes: (K, D), unit rows.
            regions: (M*N, h, w) integer, -1 outside mutual regions; or what `MutualRegions.of` made
                of it before the model's forward pass: with it, and after the first call, nothing
                here waits for a GPU.

        Returns:
            A scalar, float32 (float64 for float64 embeddings).

        Raises:
            ValueError: The batch is not a multiple of ``num_views``.
            UserError: At the first call: fewer vectors than prototypes, even with a full queue.
        """
        batch = MutualRegions.of(regions, self.num_views) if torch.is_tensor(regions) else regions
        with torch.autocast(embeddings.device.type, enabled=False):
            prototypes = prototypes.to(_accumulation_dtype(embeddings))
            vectors, coherence = self._pool(embeddings, prototypes, batch)
            scores = vectors @ prototypes.t()
            assignment = self._assign(scores[0], vectors[0], prototypes)
            total = swapped_prediction(
                assignment, scores[1:], batch.image, len(batch.counts), self.temperature
            )
            loss = self._reduce(total, batch.counts) / (self.num_views - 1)
            if coherence is not None:
                loss = (loss + self._mean_over_ranks(coherence)) / 2
        self.queue.push(vectors[0])
        self.iteration += 1
        self._record(loss, assignment, batch)
        return loss

    def _pool(
        self, embeddings: Tensor, prototypes: Tensor, batch: MutualRegions
    ) -> tuple[Tensor, Tensor | None]:
        """Unit vectors (M, I, D) of the mutual regions, and their coherence (M, I) if it counts."""
        corners = self.align_corners
        if self.region_vector == "representative":
            pooled, coherence = representative_regions(
                embeddings,
                batch.numbered,
                prototypes,
                align_corners=corners,
                coherence_gradient=self.coherence_gradient,
            )
            return batch.vectors(pooled.vectors), batch.mutual(coherence)
        pooled = pool_regions(
            embeddings, batch.numbered, normalize=self.region_vector, align_corners=corners
        )
        return batch.vectors(pooled.vectors), None

    def _assign(self, scores: Tensor, vectors: Tensor, prototypes: Tensor) -> Tensor:
        """Assignment (I, K) of this batch's view-0 regions; the queue only shifts the balance."""
        num_regions = scores.shape[0]
        if int(self.iteration) == 0:
            self._check_enough(scores)
        table = scores.detach()
        if int(self.iteration) >= self.queue_start and len(self.queue):
            stored = self.queue.stored().to(vectors.dtype)
            table = torch.cat([table, stored @ prototypes.detach().t()])
        return sinkhorn(table, self.epsilon, self.iterations, self.group)[:num_regions]

    def _check_enough(self, scores: Tensor) -> None:
        ranks = world_size(self.group)
        count = scores.new_full((), len(scores), dtype=torch.long)
        vectors = int(all_reduce_(count, group=self.group))
        if vectors + ranks * self.queue.capacity < self.num_prototypes:
            raise OptionError(
                f"{self.num_prototypes} prototypes but only {vectors} region vectors in a batch "
                f"(and a queue of {ranks * self.queue.capacity}): no balanced assignment exists. "
                "Use fewer prototypes ({num_prototypes}), more images a batch ({batch_size}), "
                "smaller regions ({region_size}) or a queue ({queue_length})"
            )

    def _reduce(self, total: Tensor, count: Tensor) -> Tensor:
        if self.reduction == "image":
            local = (total / count.clamp(min=1)).sum()
            weight = (count > 0).sum()
        else:
            local, weight = total.sum(), count.sum()
        return self._share(local, weight)

    def _mean_over_ranks(self, values: Tensor) -> Tensor:
        return self._share(values.sum(), values.new_full((), values.numel()))

    def _share(self, local: Tensor, weight: Tensor) -> Tensor:
        """Sum of this rank over the global weight, times the ranks that will be averaged."""
        everywhere = all_reduce_(weight.to(local.dtype), group=self.group).clamp(min=1)
        return local * (world_size(self.group) / everywhere)

    @torch.no_grad()
    def _record(self, loss: Tensor, assignment: Tensor, batch: MutualRegions) -> None:
        """Adds up over the ranks what `health` is worked out from when it is read."""
        usage = assignment.sum(dim=0).double()
        numbered = batch.numbered
        inside = numbered.counts.sum()
        sums = [
            loss.detach(),
            usage.new_full((), assignment.shape[0]),
            usage.new_full((), numbered.maps / self.num_views),
            numbered.row.numel() - inside,
            usage.new_full((), numbered.row.numel()),
        ]
        sums = torch.stack([value.double() for value in sums])
        self._sums = Arriving(all_reduce_(torch.cat([sums, usage]), group=self.group))

    def _read_health(self, sums: Tensor) -> dict[str, float]:
        value = float(sums[0]) / world_size(self.group)
        share = sums[5:] / sums[5:].sum().clamp(min=1e-12)
        return {
            "loss": value,
            "loss_over_lnk": value / math.log(max(self.num_prototypes, 2)),
            "perplexity": perplexity(share),
            "regions_per_view": float(sums[1] / sums[2].clamp(min=1)),
            "discarded_share": float(sums[3] / sums[4].clamp(min=1)),
            "queue_length": float(len(self.queue)),
            "queue_age": self.queue.age(),
        }


def _accumulation_dtype(value: Tensor) -> torch.dtype:
    return torch.float64 if value.dtype == torch.float64 else torch.float32
