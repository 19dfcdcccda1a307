"""Modified DeepCluster (MDC): clusters of one view, predicted by a fresh layer every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vice.methods.cluster_labels import ClusterLabels, ClusterOptions
from vice.methods.context import Context
from vice.methods.signs import Sign
from vice.options import FLAG, option

#: Standard deviation of the fresh layer's weights.
_SPREAD = 0.01
#: Share of the first epoch's k-means loss below which the embedding has gathered in its clusters.
_GATHERED = 0.2


@dataclass(frozen=True)
class MDCOptions(ClusterOptions):
    """Options of MDC."""

    nonparametric: bool = option(
        False, FLAG, "whether the centroids themselves are the classifier, as in PiCIE"
    )


class MDC(ClusterLabels):
    """DeepCluster (Caron et al. 2018) on pixels, as the authors of PiCIE modified it.

    Args:
        options: `MDCOptions`.
        settings: Nothing of it.
    """

    Options = MDCOptions
    views = 1

    @property
    def trained(self) -> bool:
        """A 1x1 convolution, unless the centroids take its place."""
        return not self.options.nonparametric

    def classifier(self, context: Context, centroids: Tensor) -> Tensor:
        """A layer that knows nothing of the old labels, and an optimizer that does not either."""
        if not self.trained:
            return centroids
        context.reset_optimizer(context.head.prototypes.parameters())
        generator = torch.Generator().manual_seed(context.seed * 1_000_003 + context.epoch)
        return _SPREAD * torch.randn(centroids.shape, generator=generator)

    def signs(self) -> Sequence[Sign]:
        """Those of all, and an embedding that gathers in its clusters."""
        return (
            *super().signs(),
            Sign(
                "gathered",
                lambda now, _: now["kmeans_share"] < _GATHERED,
                "collapse: the k-means loss is down to {now.kmeans_loss}, {now.kmeans_share} of "
                "the first epoch's: the embedding gathers in its clusters, and later epochs are "
                "worse. Train for fewer epochs ({num_epochs}), or take an earlier "
                "one",
            ),
        )
