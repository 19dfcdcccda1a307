"""ViCE: swapped prediction between the superpixels that views share (Karlsson et al.)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vice.losses import DenseSwAVLoss
from vice.losses.options import LossOptions, PrototypeOptions
from vice.methods.base import Method
from vice.methods.batch import Batch, Unusable
from vice.methods.context import Context, Source
from vice.methods.signs import Measure, Sign
from vice.models import Concepts, Prototypes
from vice.regions import MutualRegions
from vice.superpixels import Superpixels
from vice.views import NoMutualRegions, ViewSampler
from vice.views.batch import DrawnViews, ViewBatches
from vice.views.photometric import Photometric

#: Share of the prototypes in effective use below which there is no more than a collapse.
_COLLAPSE = 0.05


class PrototypeHead(nn.Module):
    """Hands the dense embedding on, with the prototypes that its regions are compared with.

    Args:
        dim: Width D of the embedding.
        num_prototypes: K.
    """

    def __init__(self, dim: int, num_prototypes: int) -> None:
        super().__init__()
        self.prototypes = Prototypes(dim, num_prototypes)

    def forward(self, embeddings: Tensor) -> list[Tensor]:
        """(B, D, h, w) to [(B, D, h, w), (K, D)]."""
        return [embeddings, self.prototypes.weight]


class ViceSwAV(Method):
    """ViCE; see `vice.losses.DenseSwAVLoss` for what is learnt.

    Args:
        options: None of its own.
        settings: ``VIEWS``, ``PHOTOMETRIC``, ``PROTOTYPES`` and ``LOSS`` hold the arguments of
            `ViewSampler`, `Photometric`, `Prototypes` and `DenseSwAVLoss`; ``CUT_ON`` and
            ``PHOTOMETRIC_ON`` say who does the work.
    """

    low_precision = True
    sections = {  # noqa: RUF012
        "SUPERPIXELS": Superpixels,
        "VIEWS": ViewSampler,
        "PHOTOMETRIC": Photometric,
        "PROTOTYPES": PrototypeOptions,
        "LOSS": LossOptions,
    }
    measures = (
        Measure("loss_over_lnk", "loss / ln K"),
        Measure("perplexity", "prototypes in use", ".1f"),
        Measure("regions_per_view", "regions a view", ".1f"),
        Measure("discarded_share", "pixels in none of them", ".0%"),
        Measure("queue_length", "queue", ".0f"),
        Measure("queue_age", "steps since it was filled", ".0f"),
    )

    def __init__(self, options: Any, settings: Mapping[str, Any]) -> None:
        super().__init__(options, settings)
        self.num_prototypes = int(settings["PROTOTYPES"]["num_prototypes"])
        self.num_views = int(settings["VIEWS"]["num_views"])
        self.views = ViewBatches(
            ViewSampler(**settings["VIEWS"]),
            Photometric(**settings["PHOTOMETRIC"]),
            cut_on=settings["CUT_ON"],
            change_on=settings["PHOTOMETRIC_ON"],
        )

    def sample(self, source: Source, index: int, rng: np.random.Generator) -> DrawnViews:
        """Views that have regions in common."""
        image, regions = source.image_and_regions(index)
        edges = source.kept(index, partial(self.views.sampler.edges, image))
        try:
            return self.views.draw(image, regions, rng, edges)
        except NoMutualRegions as error:
            raise Unusable(str(error)) from error

    def collate(self, samples: Sequence[DrawnViews]) -> dict[str, Any]:
        """As `vice.views.batch.ViewBatches.collate`."""
        return self.views.collate(samples)

    def finish(self, collated: dict[str, Any], device: torch.device) -> Batch:
        """All views as one input; the target is the regions that they share."""
        images, regions = self.views.finish(collated, device)
        return Batch([images], (MutualRegions.of(regions, self.num_views),))

    def head(self, dim: int) -> PrototypeHead:
        """The prototypes."""
        return PrototypeHead(dim, self.num_prototypes)

    def trained_later(self) -> Mapping[str, int]:
        """The prototypes, as in SwAV (ViCE (BMVC) section 3.3)."""
        return {"prototypes.weight": int(self.settings["PROTOTYPES"]["freeze_iterations"])}

    def loss(self) -> DenseSwAVLoss:
        """Dense SwAV; its queue is part of it."""
        dim = int(self.settings["PROTOTYPES"]["dim"])
        return DenseSwAVLoss(self.num_views, self.num_prototypes, dim, **self.settings["LOSS"])

    def concepts(self, head: nn.Module) -> Concepts:
        """The prototypes."""
        return _prototypes(head).concepts()

    def before_training(self, context: Context) -> None:
        """Unit prototypes also where weights came from a file."""
        _prototypes(context.head).normalize_()

    def after_step(self, context: Context) -> None:
        """Keeps the prototypes at unit length (ViCE (BMVC) section 3.3)."""
        _prototypes(context.head).normalize_()

    def before_saving(self, loss: nn.Module) -> None:
        """Each rank has a queue of its own."""
        loss.queue.collect()

    def signs(self) -> Sequence[Sign]:
        """Collapse, standstill, nothing to compare, a queue that gets old."""
        floor = max(2.0, _COLLAPSE * self.num_prototypes)
        return (
            Sign(
                "collapse",
                lambda now, _: now["perplexity"] < floor,
                "collapse: {now.perplexity} prototypes in use for {patience} steps. Lower the "
                "learning rate ({base_lr}), freeze the prototypes longer ({freeze_iterations}) or "
                "start the queue later ({queue_start})",
            ),
            Sign(
                "stuck",
                lambda now, _: now["loss_over_lnk"] > 0.999,
                "the loss has stayed at ln K for {patience} steps: nothing is learnt. Raise the "
                "learning rate ({base_lr}) or lower epsilon ({epsilon})",
            ),
            Sign(
                "no regions",
                lambda now, _: now["regions_per_view"] < 1,
                "less than one mutual region a view for {patience} steps. Use smaller regions "
                "({region_size}) or milder views ({view_scale}, mask_intensity)",
            ),
            Sign(
                "stuck queue",
                _queue_stands_still,
                "the queue has taken in nothing for {patience} steps: assignments are balanced "
                "with ever older regions. Look at the regions ({superpixels}), or do without a "
                "queue ({queue_length}=0)",
            ),
        )


def _prototypes(head: nn.Module) -> Prototypes:
    prototypes: Prototypes = head.prototypes
    return prototypes


def _queue_stands_still(now: Mapping[str, float], before: Mapping[str, float]) -> bool:
    """Whether everything in the queue has grown older by a whole step."""
    age = now.get("queue_age", 0.0)
    return now.get("queue_length", 0.0) > 0 and age >= before.get("queue_age", 0.0) + 1
