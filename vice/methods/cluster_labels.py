"""What PiCIE and modified DeepCluster share: clusters of every epoch, and their labels.

Before an epoch the embeddings of the epoch's views are clustered by mini-batch k-means and every
cell gets the label of the nearest centroid; in the epoch these labels are predicted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from vice.errors import OptionError
from vice.labels import IGNORE
from vice.losses.picie import PiCIELoss
from vice.methods.base import Method
from vice.methods.batch import Batch
from vice.methods.cluster_passes import ClusterPasses
from vice.methods.cluster_views import DrawnViews, ViewReader, collate_views, finish_views
from vice.methods.context import Context, Source
from vice.methods.label_maps import read_labels
from vice.methods.signs import Measure, Sign
from vice.minibatch_kmeans import INIT_POINTS
from vice.models import Concepts
from vice.options import NULL, either, one_of, option, whole
from vice.views.keyed import STRIDE, KeyedOptions

logger = logging.getLogger(__name__)

#: Numbers of an epoch that the health shows along with each step's.
EPOCH_NUMBERS = (
    "kmeans_loss",
    "kmeans_share",
    "clusters_in_use",
    "smallest_cluster",
    "largest_cluster",
    "labels_changed",
)
#: Share of the clusters in effective use below which there is no more than a collapse.
_COLLAPSE = 0.1


@dataclass(frozen=True)
class ClusterOptions(KeyedOptions):
    """Options of views, k-means and labels."""

    clusters: int = option(27, whole(2, 255), "clusters of the pseudo-labels, K")
    kmeans_images: int = option(256, whole(1, 10**5), "images of all ranks in a batch of k-means")
    init_batches: int = option(20, whole(1, 10**6), "batches that k-means starts from")
    update_batches: int = option(1, whole(1, 10**6), "batches between two moves of the centroids")
    kmeans_iterations: int = option(20, whole(1, 1000), "iterations of the k-means that starts")
    init_pixels: int | None = option(
        INIT_POINTS,
        either(whole(1, 10**9), NULL),
        "about how many pixels of the first batches k-means starts from (not exact: a sample); "
        "null: all of them, kept on the disk",
    )
    kmeans_bn: str = option(
        "eval",
        one_of("eval", "train"),
        "batch statistics in k-means: running ones, or the batch's (which move the running ones)",
    )
    view1_in_training: str = option(
        "jittered",
        one_of("jittered", "plain"),
        "colors of the first view in training: as its labels were made with, or the image's own "
        "(the authors' code on Cityscapes)",
    )
    pass_images: int = option(
        32, whole(1, 10**4), "images of a rank in a forward pass between epochs"
    )


class Classifier(nn.Module):
    """What pixels are segmented with, under the names that readers of states look for.

    Args:
        clusters: K.
        dim: D.
        trained: Whether weight and bias are parameters, or buffers.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, clusters: int, dim: int, *, trained: bool) -> None:
        super().__init__()
        for name, zeros in (
            ("weight", torch.zeros(clusters, dim)),
            ("bias", torch.zeros(clusters)),
        ):
            if trained:
                self.register_parameter(name, nn.Parameter(zeros))
            else:
                self.register_buffer(name, zeros)

    @torch.no_grad()
    def become(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Takes new values, (K, D) and (K,) or zeros."""
        self.weight.copy_(weight)
        self.bias.zero_() if bias is None else self.bias.copy_(bias)


class ClusterHead(nn.Module):
    """Hands the embedding on, with what it is compared with.

    Args:
        dim: Width D of the embedding.
        clusters: K of each label set.
        views: V.
        trained: Whether the classifier is trained, with one view and label set, or the centroids.
    """

    def __init__(self, dim: int, clusters: Sequence[int], views: int, *, trained: bool) -> None:
        super().__init__()
        count = sum(clusters)
        self.trained = trained
        self.prototypes = Classifier(clusters[0], dim, trained=trained)
        self.register_buffer("centroids", torch.zeros(views, count, dim))
        self.register_buffer("label_weights", torch.ones(views, count))
        self.register_buffer("epoch_numbers", torch.zeros(len(EPOCH_NUMBERS)))
        self.register_buffer("no_bias", torch.zeros(views, count), persistent=False)

    def forward(self, embeddings: Tensor) -> list[Tensor]:
        """(V * B, D, h, w) to what `vice.losses.picie.PiCIELoss` takes first."""
        classifiers, biases = self.centroids, self.no_bias
        if self.trained:
            classifiers, biases = self.prototypes.weight[None], self.prototypes.bias[None]
        return [embeddings, classifiers, biases, self.label_weights, self.epoch_numbers]


class ClusterLabels(Method):
    """A method that predicts labels of an epoch's clusters; subclasses say of which views.

    Args:
        options: `ClusterOptions`.
        settings: Nothing of it.

    Raises:
        OptionError: Sizes of the views that do not go together.
    """

    #: Views of an image.
    views = 2
    low_precision: ClassVar[bool] = True
    measures: ClassVar[Sequence[Measure]] = (
        Measure("within", "cross-entropy within"),
        Measure("kmeans_loss", "k-means loss"),
        Measure("kmeans_share", "of the first epoch's", ".0%"),
        Measure("clusters_in_use", "clusters in use", ".1f"),
        Measure("smallest_cluster", "smallest", ".1%"),
        Measure("largest_cluster", "largest", ".1%"),
        Measure("labels_changed", "of the labels changed", ".0%"),
    )

    def __init__(self, options: Any, settings: Mapping[str, Any]) -> None:
        super().__init__(options, settings)
        self.cells = options.view_side // STRIDE
        whole_pixels = options.crop_grid != "exact" or options.image_side % self.cells == 0
        if options.view_side % STRIDE or options.image_side < 2 * self.cells or not whole_pixels:
            raise OptionError(
                "views of {given} pixels in a square of {square} do not fit the embedding's cells: "
                "choose {view_side} a multiple of 4, and {image_side} at least half of it (with "
                "crop_grid exact a multiple of a quarter of it)",
                given=options.view_side,
                square=options.image_side,
            )
        self.epoch = -1
        self.first_loss = 0.0
        self.labels: np.ndarray | None = None

    @property
    def label_sets(self) -> list[int]:
        """K of each set of labels."""
        return [self.options.clusters]

    @property
    def trained(self) -> bool:
        """Whether the classifier is trained, and not the centroids."""
        return False

    # In a worker.

    def sample(self, source: Source, index: int, rng: np.random.Generator) -> DrawnViews:
        """The epoch's views of an image, drawn by its key: labels were made of the same ones."""
        del rng
        plain = self.options.view1_in_training == "plain"
        return ViewReader(self.options, self.views, plain_first=plain)(source, index)

    def collate(self, samples: Sequence[DrawnViews]) -> dict[str, Any]:
        """As `vice.methods.cluster_views.collate_views`."""
        return collate_views(samples)

    # On the device.

    def finish(self, collated: dict[str, Any], device: torch.device) -> Batch:
        """The views; targets are where the first lies in the second, and the labels."""
        inputs, cells, flips = finish_views(collated, device, self.options.view_side)
        labels = self._labels_of(collated["images"].numpy())
        return Batch(inputs, (cells, flips, labels.to(device, non_blocking=True)))

    def _labels_of(self, images: np.ndarray) -> Tensor:
        """uint8 (B, S, V, g, g); none is known before the first epoch."""
        if self.labels is None:
            return torch.full(self._label_shape(len(images)), IGNORE, dtype=torch.uint8)
        return torch.from_numpy(np.array(self.labels[images]))

    def _label_shape(self, images: int) -> tuple[int, ...]:
        return (images, len(self.label_sets), self.views, self.cells, self.cells)

    def head(self, dim: int) -> ClusterHead:
        """What the embedding is compared with, and numbers of the epoch."""
        return ClusterHead(dim, self.label_sets, self.views, trained=self.trained)

    def loss(self) -> PiCIELoss:
        """Cross-entropy of the labels."""
        return PiCIELoss(self.label_sets, self.views).name_epoch(EPOCH_NUMBERS)

    def concepts(self, head: nn.Module) -> Concepts | None:
        """What the first view is compared with; in the end, clusters of the finished embedder.

        That there is a bias, if of zeros, has pixels compared at unit length, as in the loss.
        """
        found: Classifier = head.prototypes
        if not found.weight.any():
            return None
        return Concepts(found.weight.detach(), found.bias.detach(), name="clusters")

    # Between epochs.

    def before_epoch(self, context: Context) -> None:
        """Clusters, then labels of the nearest ones."""
        passes = ClusterPasses(context, self.options, self.views)
        fits = passes.fit(self.label_sets)
        path = context.folder / _file_of(context.epoch)
        frequencies, changed = passes.label(fits, path, self._old_labels(context))
        self.epoch = context.epoch
        self.resume_epoch(context)
        loss = float(np.mean([kmeans.loss for kmeans in fits[0]]))
        self.first_loss = self.first_loss or loss
        numbers = [loss, loss / max(self.first_loss, 1e-12), *_sizes(frequencies[0]), changed]
        by_view = [torch.cat([sets[v].centroids for sets in fits]) for v in range(self.views)]
        head = context.head
        with torch.no_grad():
            head.centroids.copy_(torch.stack(by_view))
            head.label_weights.copy_(torch.cat(frequencies, dim=1))
            head.epoch_numbers.copy_(torch.tensor(numbers))
        head.prototypes.become(self.classifier(context, fits[0][0].centroids))
        _tell(numbers, all(kmeans.exact for sets in fits for kmeans in sets))

    def classifier(self, context: Context, centroids: Tensor) -> Tensor:
        """What an epoch begins to compare the first view with, (K, D): its centroids."""
        del context
        return centroids

    def _old_labels(self, context: Context) -> np.ndarray | None:
        if context.epoch == 0:
            return None
        path = context.folder / _file_of(context.epoch - 1)
        old = read_labels(path, self._label_shape(context.num_images))
        if old is None:
            logger.warning("%s is gone: how many labels have changed is not known", path)
        return old

    def before_export(self, context: Context) -> None:
        """Clusters of the finished embedder, since an epoch's are one epoch old."""
        kmeans = ClusterPasses(context, self.options, self.views).fit_whole(self.label_sets[0])
        context.head.prototypes.become(kmeans.centroids)

    # What resuming inside an epoch needs.

    def state_dict(self) -> dict[str, Any]:
        """Whose labels the file holds; what else an epoch begins with is the head's."""
        return {"epoch": self.epoch, "first_loss": self.first_loss}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self.epoch, self.first_loss = state["epoch"], state["first_loss"]

    def files(self) -> Sequence[str]:
        """The epoch's labels."""
        return () if self.epoch < 0 else (_file_of(self.epoch),)

    def resume_epoch(self, context: Context) -> None:
        """Opens the epoch's labels."""
        path = context.folder / _file_of(self.epoch)
        self.labels = read_labels(path, self._label_shape(context.num_images))
        if self.labels is None:
            raise OptionError(
                "{file} does not hold the labels of these images and options: the images of the "
                "run have changed ({data_paths})",
                file=path,
            )

    def signs(self) -> Sequence[Sign]:
        """Few clusters that hold nearly all pixels."""
        floor = max(1.5, _COLLAPSE * self.options.clusters)
        return (
            Sign(
                "collapse",
                lambda now, _: now["clusters_in_use"] < floor,
                "collapse: {now.clusters_in_use} clusters in use, the largest holds "
                "{now.largest_cluster} of the pixels. Lower the learning rate ({base_lr}, or "
                "peak_lr if it is set), or look for another number of clusters ({clusters})",
            ),
        )


def _file_of(epoch: int) -> str:
    # The labels of the epoch before stay until those of the next one are whole.
    return f"labels_{epoch % 2}.npy"


def _sizes(frequencies: Tensor) -> list[float]:
    """Of shares (V, K): least effective number of clusters of a view, smallest and largest one."""
    shares = frequencies.clamp(min=1e-12)
    in_use = torch.exp(-(frequencies * shares.log()).sum(1))
    return [float(in_use.min()), float(frequencies.min()), float(frequencies.max())]


def _tell(numbers: Sequence[float], exact: bool) -> None:
    named = dict(zip(EPOCH_NUMBERS, numbers, strict=True))
    logger.info(
        "labels of an epoch: k-means loss %.4f%s, %.1f clusters in use, the smallest with %.2f %% "
        "and the largest with %.1f %% of the pixels, %.0f %% of the labels changed",
        named["kmeans_loss"],
        "" if exact else " (started from a sample: not exact)",
        named["clusters_in_use"],
        100 * named["smallest_cluster"],
        100 * named["largest_cluster"],
        100 * named["labels_changed"],
    )
