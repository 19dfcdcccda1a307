"""MaskContrast: pixels of an object against the object's prototype in another view."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.errors import OptionError
from vice.losses.maskcontrast import IN_BATCH, MaskContrastLoss
from vice.methods.base import Method
from vice.methods.batch import Batch
from vice.methods.context import Context, Source
from vice.methods.object_views import DrawnObjects, ObjectViewOptions, ObjectViews, WholeImage
from vice.methods.signs import Measure, Sign
from vice.minibatch_kmeans import MiniBatchKMeans
from vice.models import Concepts, Embedder
from vice.models.key_encoder import Run
from vice.models.modes import evaluating
from vice.normalize import normalize
from vice.options import SHARE, number, one_of, option, whole
from vice.regions import pool_regions
from vice.runtime.collectives import all_reduce_
from vice.superpixels import Foregrounds
from vice.views.photometric import Photometric

logger = logging.getLogger(__name__)

#: Share of the pixels beyond which a saliency is the same everywhere.
_EVERYWHERE = 0.001
#: Share of the images whose views may show too little before it is told.
_MOST_REPLACED = 0.3
#: Iterations of the k-means of objects.
_ITERATIONS = 20


@dataclass(frozen=True)
class MaskContrastOptions(ObjectViewOptions):
    """Options of views and loss."""

    queue_keys: int = option(
        128, whole(1, 10**6), "prototypes of past batches that pixels are told from, K"
    )
    contrast_temperature: float = option(0.5, number(1e-3, 100), "temperature of the logits, T")
    in_batch: str = option(
        "local",
        one_of(*IN_BATCH),
        "prototypes of the batch that pixels are told from: the rank's own (the authors' code), or "
        "those of all ranks",
    )
    key_momentum: float = option(
        0.999, SHARE, "share of its own weights that the key encoder keeps at each step"
    )
    clusters: int = option(
        20, whole(1, 10**5), "clusters of the objects that are exported, to segment with"
    )
    pass_images: int = option(32, whole(1, 10**4), "images of all ranks in a batch of a pass")


class Clusters(nn.Module):
    """Vectors that are exported, under the name that readers of states look for; zeros before."""

    weight: Tensor

    def __init__(self, dim: int, clusters: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(clusters, dim))


class SalientHead(nn.Module):
    """Parts the embedding from the saliency, and keeps the clusters of objects.

    Args:
        dim: Width D of the embedding.
        clusters: How many clusters.
    """

    def __init__(self, dim: int, clusters: int) -> None:
        super().__init__()
        self.dim = dim
        self.prototypes = Clusters(dim, clusters)

    def forward(self, maps: Tensor) -> list[Tensor]:
        """(B, D + 1, h, w) to [(B, D, h, w), (B, 1, h, w)]."""
        return [maps[:, : self.dim], maps[:, self.dim :]]


class MaskContrast(Method):
    """MaskContrast; see `vice.losses.maskcontrast.MaskContrastLoss` for what is learnt.

    Args:
        options: `MaskContrastOptions`.
        settings: ``FOREGROUND`` and ``PHOTOMETRIC`` hold the arguments of `Foregrounds` and
            `Photometric`; ``PHOTOMETRIC_ON`` says who does the work.
    """

    Options = MaskContrastOptions
    sections: ClassVar[Mapping[str, type]] = {"FOREGROUND": Foregrounds, "PHOTOMETRIC": Photometric}
    outputs: ClassVar[Mapping[str, int]] = {"saliency": 1}
    low_precision: ClassVar[bool] = True
    measures: ClassVar[Sequence[Measure]] = (
        Measure("contrastive", "contrastive"),
        Measure("contrastive_over_ln", "of ln(B + K)", ".2f"),
        Measure("saliency", "saliency"),
        Measure("salient_share", "held for salient", ".1%"),
        Measure("matched_share", "of the objects' pixels in both views", ".0%"),
        Measure("redrawn", "drawn again", ".0%"),
        Measure("replaced", "replaced", ".0%"),
        Measure("queue_filled", "queue", ".0%"),
    )

    def __init__(self, options: MaskContrastOptions, settings: Mapping[str, Any]) -> None:
        super().__init__(options, settings)
        objects = settings["FOREGROUND"]
        self.most = 1 if objects["objects"] == "one" else int(objects["most_objects"])
        self.views = ObjectViews(
            options,
            Photometric(**settings["PHOTOMETRIC"]),
            self.most,
            str(settings["PHOTOMETRIC_ON"]),
        )
        self.criterion: MaskContrastLoss | None = None

    # In a worker.

    def sample(self, source: Source, index: int, rng: np.random.Generator) -> DrawnObjects:
        """Two views that show enough of the objects, and of the background."""
        return self.views.draw(source, index, rng)

    def collate(self, samples: Sequence[DrawnObjects]) -> dict[str, Any]:
        """As `vice.methods.object_views.ObjectViews.collate`."""
        return self.views.collate(samples)

    # On the device.

    def finish(self, collated: dict[str, Any], device: torch.device) -> Batch:
        """Queries for the network; keys, and what both show, for the loss."""
        queries, keys, objects = self.views.finish(collated, device)
        return Batch([queries], (keys, objects))

    def head(self, dim: int) -> SalientHead:
        """Nothing that is trained: both outputs are the embedder's."""
        return SalientHead(dim, self.options.clusters)

    def loss(self) -> MaskContrastLoss:
        """Contrast and saliency; queue and key encoder are part of it."""
        return MaskContrastLoss(
            self.options.queue_keys,
            temperature=self.options.contrast_temperature,
            in_batch=self.options.in_batch,
            most=self.most,
        )

    def bind(self, loss: nn.Module, embedder: Embedder, run: Run) -> None:
        """The key encoder is a copy of the embedder."""
        assert isinstance(loss, MaskContrastLoss)
        loss.bind(embedder, run)
        self.criterion = loss

    def check_batch(self, images: int) -> None:
        """Batches must fill the queue evenly, if each image has one key (the authors' code)."""
        length = self.options.queue_keys
        if self.most == 1 and length % images:
            nearest = max(1, round(length / images)) * images
            raise OptionError(
                "a queue of {length} prototypes is not filled evenly by {images} images a step: "
                "choose a multiple ({queue_keys}={nearest}), or other batches ({batch_size})",
                length=length,
                images=images,
                nearest=nearest,
            )

    def provenance(self) -> Mapping[str, Any]:
        """Whose foreground it was trained with: a built-in one is not the paper's method."""
        builtin = self.settings["FOREGROUND"]["source"] == "builtin"
        return {"foreground": "builtin saliency" if builtin else "masks from files"}

    def concepts(self, head: nn.Module) -> Concepts | None:
        """Clusters of the objects, once the training is done."""
        weight: Tensor = head.prototypes.weight
        used = weight[weight.any(dim=1)]
        return Concepts(used.detach(), name="clusters of objects") if len(used) else None

    # Between steps and epochs.

    def before_training(self, context: Context) -> None:
        """Key encoder and queue as they begin, the same on every rank."""
        criterion = self._bound()
        criterion.key.become()
        criterion.queue.scatter(context.seed)

    def after_step(self, context: Context) -> None:
        """``k <- m k + (1 - m) q``, which the next step's keys are encoded with."""
        del context
        self._bound().key.follow(self.options.key_momentum)

    def before_saving(self, loss: nn.Module) -> None:
        """Batch statistics of the key encoder are each rank's own."""
        key: Any = loss.key
        key.collect()

    def before_export(self, context: Context) -> None:
        """Clusters of the objects of all images, in plain views."""
        found = self._object_vectors(context)
        count = all_reduce_(torch.tensor(float(len(found)), device=context.device))
        clusters = min(self.options.clusters, int(count))
        if clusters < self.options.clusters:
            logger.warning(
                "%d objects in all images: %d clusters are exported, not %d",
                int(count), clusters, self.options.clusters,
            )  # fmt: skip
        weight: Tensor = context.head.prototypes.weight
        weight.zero_()
        if not clusters:
            return
        kmeans = MiniBatchKMeans(
            clusters, weight.shape[1], init_groups=1, init_maps=int(count), init_points=int(count),
            iterations=_ITERATIONS, seed=context.seed, device=context.device, check=context.check,
        )  # fmt: skip
        kmeans.add([vector[:, None, None] for vector in found.values()], list(found))
        kmeans.end_group()
        kmeans.finish()
        weight[:clusters] = F.normalize(kmeans.centroids, dim=1)

    def _object_vectors(self, context: Context) -> dict[int, Tensor]:
        """Prototype (D,) of each object of this rank's images, by a number of its own."""
        found: dict[int, Tensor] = {}
        side = self.options.view_side
        with evaluating(context.embedder):
            for part in context.run(WholeImage(side), self.options.pass_images):
                for index, (pixels, objects) in part:
                    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
                    dense = context.embedder(normalize(image.to(context.device)))
                    ids = torch.from_numpy(objects.astype(np.int64) - 1)[None].to(context.device)
                    pooled = pool_regions(dense.float(), ids, self.most)
                    vectors = F.normalize(pooled.vectors, dim=1)
                    numbers = (index * self.most + pooled.index[:, 1]).tolist()
                    found.update(zip(numbers, vectors, strict=True))
        return found

    def _bound(self) -> MaskContrastLoss:
        if self.criterion is None:
            raise ValueError("the method must be bound to its loss first")
        return self.criterion

    def signs(self) -> Sequence[Sign]:
        """Nothing learnt, a saliency without a shape, and masks that hardly fit."""
        return (
            Sign(
                "stuck",
                lambda now, _: now["contrastive_over_ln"] > 0.999,
                "the contrastive loss has stayed at ln(B + K) for {patience} steps: nothing is "
                "learnt. Raise the learning rate ({base_lr}, or peak_lr if it is set), or lower "
                "the temperature ({contrast_temperature})",
            ),
            Sign(
                "flat saliency",
                lambda now, _: not _EVERYWHERE < now["salient_share"] < 1 - _EVERYWHERE,
                "collapse: for {patience} steps {now.salient_share} of the pixels have been held "
                "for salient. Lower the learning rate ({base_lr}, or peak_lr if it is set), or "
                "look at the masks ({Foregrounds.folder})",
            ),
            Sign(
                "replaced images",
                lambda now, _: now["replaced"] > _MOST_REPLACED,
                "for {patience} steps other images have taken the place of {now.replaced} of the "
                "images or more, whose views showed too little of an object or of the background. "
                "Look at the masks ({Foregrounds.folder}), or allow less ({least_cover})",
            ),
        )
