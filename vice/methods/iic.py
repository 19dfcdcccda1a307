"""Invariant information clustering (IIC) of pixels: classes that a pair of images agrees on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vice.errors import OptionError
from vice.labels import IGNORE
from vice.losses.iic import IICLoss
from vice.methods.base import Method
from vice.methods.batch import Batch
from vice.methods.context import Context, Source
from vice.methods.label_folder import read_labels_of
from vice.methods.signs import Measure, Sign
from vice.models import Concepts
from vice.models.concepts import RAW
from vice.options import FLAG, NULL, PATH, either, list_of, number, one_of, option, whole
from vice.precision import full_precision
from vice.superpixels.external import RegionFiles
from vice.views.pairs import Pair, PairOptions, collate_pairs, draw_pair, finish_pairs
from vice.views.photometric import Photometric

#: Numbers of the heads: of over-clustering, and of the classes.
A, B = 0, 1
#: Share of the way to its minimum that a loss has not left after a pass with each head.
_STANDSTILL = 0.02
#: Share of the clusters in effective use below which there is no more than a collapse.
_COLLAPSE = 0.1
#: Share of the batches above which too many hold no pixel that counts.
_SKIPPED = 0.1


@dataclass(frozen=True)
class IICOptions(PairOptions):
    """Options of the pairs, the heads and the loss."""

    clusters: int = option(27, whole(2, 1000), "classes of head B, whose layer is exported")
    over_clusters: int = option(45, whole(2, 1000), "clusters of head A")
    sub_heads: int = option(
        1,
        whole(1, 16),
        "layers of each head, whose losses are averaged; of B the first is exported",
    )
    displacement: int = option(
        10, whole(0, 64), "most pixels that classes may lie apart, T, in either direction"
    )
    joint: str = option(
        "uncollapsed",
        one_of("uncollapsed", "collapsed"),
        "the loss of each displacement, averaged, or that of all of them taken together",
    )
    over_entropy_weight: float = option(
        1.0, number(0.5, 10), "weight of the entropy of A's classes, lambda"
    )
    entropy_weight: float = option(1.0, number(0.5, 10), "the same of B's")
    head_b_first: bool = option(
        False, FLAG, "whether even epochs, from 0, train head B and odd ones A, or the reverse"
    )
    idle_head: str = option(
        "skip",
        one_of("skip", "decay"),
        "what the optimizer does with the head that an epoch does not train: nothing, or a step "
        "without gradient, in which what it has gathered goes on",
    )
    mask: str = option(
        "valid",
        one_of("valid", "labels"),
        "pixels that count: all inside the image, or of these such as are labelled in "
        "labels_folder, as in the authors' code; that is supervision",
    )
    labels_folder: str | None = option(
        None, either(NULL, PATH), "folder of label maps, NAME.png of an image NAME.jpg"
    )
    counted_labels: tuple[int, ...] | None = option(
        None,
        either(list_of(whole(0, 254), 1, 255), NULL),
        "values of the label maps that count; null: all but 255",
    )


class LinearClasses(nn.Module):
    """Scores of classes by a 1x1 convolution without bias.

    Args:
        clusters: K.
        dim: D.
    """

    def __init__(self, clusters: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.kaiming_normal_(torch.empty(clusters, dim)))

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, D, h, w) to (B, K, h, w)."""
        return nn.functional.conv2d(embeddings, self.weight[:, :, None, None])


class TwoHeads(nn.Module):
    """Two heads, of which one is trained at a time.

    Args:
        dim: Width D of the embedding.
        clusters: K of A and of B.
        sub_heads: Layers of each.
        first: Which is trained first.

    Attributes:
        active: Which is trained now.
        prototypes: B's first layer, under the name that readers of states look for.
    """

    def __init__(self, dim: int, clusters: Sequence[int], sub_heads: int, first: int) -> None:
        super().__init__()
        self.prototypes = LinearClasses(clusters[B], dim)
        self.more = nn.ModuleList(LinearClasses(clusters[B], dim) for _ in range(sub_heads - 1))
        self.over = nn.ModuleList(LinearClasses(clusters[A], dim) for _ in range(sub_heads))
        self.active = first

    def layers(self, head: int) -> list[nn.Module]:
        """Layers of a head."""
        return list(self.over) if head == A else [self.prototypes, *self.more]

    def idle_parameters(self) -> Iterator[nn.Parameter]:
        """Of the head that is not trained now."""
        return (each for layer in self.layers(1 - self.active) for each in layer.parameters())

    def forward(self, embeddings: Tensor) -> list[Tensor]:
        """(2 B, D, h, w) to the active head's scores (2 B, S * K, h, w), and 0.

        All parameters have a part in the 0: data-parallel training waits for the gradient of each.
        """
        embeddings = full_precision(embeddings)
        scores = torch.cat([layer(embeddings) for layer in self.layers(self.active)], 1)
        idle = torch.stack([each.sum() * 0.0 for each in self.idle_parameters()])
        return [scores, idle.sum()]


class IIC(Method):
    """IIC; see `vice.losses.iic.IICLoss` for what is learnt.

    Args:
        options: `IICOptions`.
        settings: ``PHOTOMETRIC`` holds the arguments of `Photometric`, for the second images;
            ``STANDARDIZE`` how images are brought to a size.

    Raises:
        OptionError: Options of the mask that do not go together.
    """

    Options = IICOptions
    low_precision = True
    sections = {"PHOTOMETRIC": Photometric}  # noqa: RUF012
    measures = (
        Measure("loss", "loss"),
        Measure("minimum", "at least", ".2f"),
        Measure("clusters_in_use", "clusters in use", ".1f"),
        Measure("largest_cluster", "largest", ".1%"),
        Measure("counted", "of the pixels counted", ".0%"),
        Measure("skipped_batches", "batches without any", ".0f"),
    )

    def __init__(self, options: IICOptions, settings: Mapping[str, Any]) -> None:
        super().__init__(options, settings)
        self.photometric = Photometric(**settings["PHOTOMETRIC"])
        if (options.mask == "labels") != (options.labels_folder is not None):
            raise OptionError(
                "mask {given} and a folder of label maps {named}: give both {mask}=labels and "
                "{labels_folder}, or neither",
                given=options.mask,
                named=options.labels_folder,
            )
        if options.mask == "labels":
            if settings["STANDARDIZE"]["mode"] == "lowres":
                raise OptionError(
                    "{mask}=labels does not go with images that are cut to squares: choose another "
                    "size of images (STANDARDIZE.mode)"
                )
            self.label_files = RegionFiles(options.labels_folder)
        self.epoch = 0
        self._criterion: IICLoss | None = None

    @property
    def active(self) -> int:
        """The head that the epoch trains."""
        return (self.epoch + int(self.options.head_b_first)) % 2

    # In a worker.

    def sample(self, source: Source, index: int, rng: np.random.Generator) -> Pair:
        """A pair, drawn by its key; an image that an epoch has several times gives several."""
        key = (source.seed, source.epoch, index, int(rng.integers(2**31)))
        image = source.image(index)
        counted = (
            self._counted(source.path(index), image) if self.options.mask == "labels" else None
        )
        return draw_pair(image, counted, key, self.options, self.photometric)

    def _counted(self, path: str, image: np.ndarray) -> np.ndarray:
        """Pixels of an image whose label counts, bool (H, W)."""
        labels = read_labels_of(path, image, self.label_files)
        wanted = self.options.counted_labels
        return labels != IGNORE if wanted is None else np.isin(labels, wanted)

    def collate(self, samples: Sequence[Pair]) -> dict[str, Any]:
        """As `vice.views.pairs.collate_pairs`."""
        return collate_pairs(samples)

    # On the device.

    def finish(self, collated: dict[str, Any], device: torch.device) -> Batch:
        """The two images; targets are what counts, where it lies, and which head learns."""
        first, second, counted, back = finish_pairs(
            collated, device, self.photometric, affine=self.options.affine
        )
        return Batch([first, second], (counted, back, self.active, self.epoch))

    def head(self, dim: int) -> TwoHeads:
        """A linear layer for over-clustering and one for the classes."""
        clusters = (self.options.over_clusters, self.options.clusters)
        return TwoHeads(dim, clusters, self.options.sub_heads, self.active)

    def loss(self) -> IICLoss:
        """Mutual information of the active head's classes."""
        options = self.options
        self._criterion = IICLoss(
            (options.over_clusters, options.clusters),
            (options.over_entropy_weight, options.entropy_weight),
            sub_heads=options.sub_heads,
            displacement=options.displacement,
            collapsed=options.joint == "collapsed",
        )
        return self._criterion

    def concepts(self, head: nn.Module) -> Concepts:
        """Head B's layer on embeddings as they are, which is what it is trained on."""
        weight: Tensor = head.prototypes.weight
        return Concepts(weight.detach(), space=RAW, name="classes")

    # Between steps and epochs.

    def before_epoch(self, context: Context) -> None:
        """The heads take turns."""
        self.epoch = context.epoch
        self.resume_epoch(context)

    def resume_epoch(self, context: Context) -> None:
        """Gives the epoch's head its turn again."""
        context.head.active = self.active

    def before_step(self, context: Context) -> None:
        """Keeps the step off the head that is idle; and off all, where no pixel counted."""
        if self._criterion is not None and self._criterion.health["empty"]:
            for module in (context.embedder, context.head):
                module.zero_grad(set_to_none=True)
        elif self.options.idle_head == "skip":
            for parameter in context.head.idle_parameters():
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The epoch, by which the heads take turns, and whose it is."""
        return {"epoch": self.epoch, "head": "AB"[self.active]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self.epoch = state["epoch"]

    def provenance(self) -> Mapping[str, Any]:
        """That labels say which pixels count."""
        if self.options.mask != "labels":
            return {}
        wanted = self.options.counted_labels
        values = "all but 255" if wanted is None else ", ".join(map(str, wanted))
        return {"supervision": f"pixels that count in the loss are those labelled {values}"}

    def signs(self) -> Sequence[Sign]:
        """Collapse, standstill, and masks without a pixel."""
        fewest = min(self.options.clusters, self.options.over_clusters)
        floor = max(1.5, _COLLAPSE * fewest)
        return (
            Sign(
                "collapse",
                lambda now, _: now["clusters_in_use"] < floor,
                "collapse: {now.clusters_in_use} clusters in use for {patience} steps, the largest "
                "holds {now.largest_cluster} of the pixels. Lower the learning rate ({base_lr}, or "
                "peak_lr beside it), or let even classes count for more ({entropy_weight}, "
                "{over_entropy_weight})",
            ),
            Sign(
                "standstill",
                lambda now, _: now["passed"] >= 2 and now["learnt"] < _STANDSTILL,
                "the loss has stayed at {now.loss} for {patience} steps, its minimum is "
                "{now.minimum}: the classes of the two images know nothing of each other. Raise "
                "the learning rate ({base_lr}, or peak_lr beside it)",
            ),
            Sign(
                "no pixels",
                lambda now, _: now["skipped_share"] > _SKIPPED,
                "{now.skipped_batches} batches held no pixel that counts, and were skipped. Look "
                "at the label maps ({labels_folder}), the labels that count ({counted_labels}), or "
                "cut larger squares ({crop_side})",
            ),
        )
