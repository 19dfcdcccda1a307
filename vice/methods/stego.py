"""STEGO: correspondences of frozen features, distilled into codes (Hamilton et al. 2022)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from vice.errors import OptionError
from vice.losses.stego import PAIRS, PairNumbers, StegoLoss
from vice.methods.base import Method
from vice.methods.batch import Batch
from vice.methods.code_head import CodeHead
from vice.methods.context import Context, Source
from vice.methods.correspondence_numbers import in_words, measure, numbers_from
from vice.methods.crop_pairs import CropOptions, CropPair, CropPairs, ReadCrops, collate_crops
from vice.methods.neighbor_table import digest_weights, ensure_table, table_key
from vice.methods.signs import Measure, Sign
from vice.models import Concepts, Embedder
from vice.models.key_encoder import Run
from vice.models.projection import DROPPED
from vice.normalize import normalize
from vice.options import FLAG, NULL, PATH, either, number, one_of, option, whole
from vice.runtime.collectives import on_first_rank
from vice.runtime.device import to_device
from vice.runtime.files import read_json, write_json
from vice.superpixels.external import RegionFiles

logger = logging.getLogger(__name__)

#: The numbers of a run that were measured, in its folder.
NUMBERS = "correspondences.json"
_WEIGHT, _SHIFT = number(0, 1e3), number(-1, 1)
#: Share of the clusters in effective use below which there is no more than a collapse.
_COLLAPSE = 0.1
#: Mean cosine of the codes of random pairs above which all codes are one.
_ONE_CODE = 0.95
#: Share of a neighbor's correspondences above b below which neighbors do not attract.
_NO_ATTRACTION = 1e-3


@dataclass(frozen=True)
class StegoOptions(CropOptions):
    """Options of crops, loss and probes; the numbers are those of COCO and DINO's ViT-B/8."""

    numbers: str = option(
        "given",
        one_of("given", "measured"),
        "where w and b come from: the six options below, or, before the first step, the "
        "distribution of correspondences (vice/methods/correspondence_numbers.py)",
    )
    weight_self: float = option(0.1, _WEIGHT, "weight w of a crop's loss with itself")
    weight_neighbor: float = option(1.0, _WEIGHT, "the same with a neighbor")
    weight_random: float = option(0.1538476246415498, _WEIGHT, "the same with others of the batch")
    shift_self: float = option(
        0.12, _SHIFT, "correspondence b of features from which codes of a crop attract each other"
    )
    shift_neighbor: float = option(0.2, _SHIFT, "the same with a neighbor")
    shift_random: float = option(1.0, _SHIFT, "the same with others of the batch")
    pointwise: bool = option(
        True, FLAG, "spatial centering: whether all points correspond to others alike on average"
    )
    zero_clamp: bool = option(True, FLAG, "whether codes are not pushed beyond a right angle")
    stabilize: bool = option(False, FLAG, "whether codes attract only up to a cosine of 0.8")
    clusters: int = option(27, whole(2, 1000), "clusters of the probe, which are exported")
    linear_probe: str = option(
        "after",
        one_of("after", "during"),
        "after: a linear probe is fitted when the training is scored; during: one is trained "
        "along, by the labels in labels_folder, without reaching the codes (the authors' code)",
    )
    labels_folder: str | None = option(
        None, either(NULL, PATH), "folder of label maps, NAME.png of an image NAME.jpg"
    )
    classes: int = option(27, whole(2, 255), "labels from 0 that the probe trained along knows")
    neighbor_dropout: bool = option(
        False,
        FLAG,
        "whether a tenth of the channels is dropped where neighbors are looked for, for each crop "
        "anew (the authors' code)",
    )
    cache_dir: str | None = option(
        None, either(NULL, PATH), "folder in which runs share tables of neighbors"
    )
    pass_images: int = option(32, whole(1, 10**4), "images of all ranks in a batch of a pass")


class STEGO(Method):
    """STEGO; see `vice.losses.stego.StegoLoss` for what is learnt.

    Args:
        options: `StegoOptions`.
        settings: ``STANDARDIZE`` says how images are brought to a size before they are cut.

    Raises:
        OptionError: A probe that is trained along without labels, or labels without it.
    """

    Options = StegoOptions
    outputs: ClassVar[Mapping[str, int]] = {"features": 0}
    frozen: ClassVar[bool] = True
    low_precision: ClassVar[bool] = True
    measures: ClassVar[Sequence[Measure]] = (
        Measure("correspondence", "correspondence"),
        Measure("loss_self", "itself"),
        Measure("loss_neighbor", "neighbors"),
        Measure("loss_random", "others"),
        Measure("above_neighbor", "of the neighbors' points attract", ".1%"),
        Measure("code_random", "cosine of codes to others", ".2f"),
        Measure("probe", "cluster probe"),
        Measure("clusters_in_use", "clusters in use", ".1f"),
        Measure("largest_cluster", "largest", ".1%"),
    )

    def __init__(self, options: StegoOptions, settings: Mapping[str, Any]) -> None:
        super().__init__(options, settings)
        along, folder = options.linear_probe == "during", options.labels_folder
        if along != (folder is not None):
            raise OptionError(
                "linear probe {given} and a folder of label maps {named}: give both "
                "{linear_probe}=during and {labels_folder}, or neither",
                given=options.linear_probe,
                named=folder,
            )
        self.classes = options.classes if along else 0
        self.criterion: StegoLoss | None = None
        self.crops = CropPairs(options, RegionFiles(folder, "label map") if along else None)

    # In a worker.

    def sample(self, source: Source, index: int, rng: np.random.Generator) -> CropPair:
        """A crop of the image, and one of its neighbors'."""
        return self.crops.draw(source, index, rng)

    def collate(self, samples: Sequence[CropPair]) -> dict[str, Any]:
        """As `vice.methods.crop_pairs.collate_crops`."""
        return collate_crops(samples)

    # On the device.

    def finish(self, collated: dict[str, Any], device: torch.device) -> Batch:
        """Crops and neighbors for the network; where they are compared, for the loss."""
        own, near = to_device(collated["pixels"].numpy(), device).permute(0, 1, 4, 2, 3)
        return Batch([normalize(own), normalize(near)], (collated["places"].to(device),))

    def head(self, dim: int) -> CodeHead:
        """The probes."""
        return CodeHead(dim, self.options.clusters, self.classes)

    def loss(self) -> StegoLoss:
        """Correspondences and probes."""
        options = self.options
        return StegoLoss(
            PairNumbers(options.weight_self, options.shift_self),
            PairNumbers(options.weight_neighbor, options.shift_neighbor),
            PairNumbers(options.weight_random, options.shift_random),
            pointwise=options.pointwise,
            zero_clamp=options.zero_clamp,
            stabilize=options.stabilize,
        )

    def bind(self, loss: nn.Module, embedder: Embedder, run: Run) -> None:
        """The loss may be told other numbers than the options have."""
        assert isinstance(loss, StegoLoss)
        self.criterion = loss

    def check_batch(self, images: int) -> None:
        """A single image has no other one to be told from."""
        if images < 2:
            raise OptionError("{batch_size}: one image a step has no other to be compared with")

    def concepts(self, head: nn.Module) -> Concepts:
        """The clusters of the probe, compared by direction."""
        weight: Tensor = head.prototypes.weight
        return Concepts(weight.detach(), name="clusters")

    def provenance(self) -> Mapping[str, Any]:
        """That labels train a probe, and nothing that is exported; and numbers that were found."""
        told: dict[str, Any] = {}
        if self.classes:
            told["supervision"] = "none of what is exported; labels train a linear probe beside it"
        if self.options.numbers == "measured" and self.criterion is not None:
            told["correspondences"] = in_words(self.criterion.numbers)
        return told

    # Between steps.

    def before_workers(self, context: Context) -> None:
        """Looks for the neighbors of all crops by the features of the backbone, if need be."""
        options = self.options
        key = table_key(
            {
                "weights": digest_weights(context.embedder.backbone),
                "images": context.images,
                "standardize": dict(self.settings["STANDARDIZE"]),
                "crops": options.crops,
                "side": options.crop_side,
                "dropout": context.seed if options.neighbor_dropout else None,
            }
        )
        ensure_table(
            context,
            key,
            ReadCrops(options),
            batch=options.pass_images,
            shared=options.cache_dir,
            dropped=DROPPED if options.neighbor_dropout else 0.0,
        )
        if options.numbers == "measured":
            self._take_numbers(context, f"{key} {options.pointwise} {options.points}")

    def _take_numbers(self, context: Context, key: str) -> None:
        """Those of an earlier start, or such as are worked out now."""
        file = context.folder / NUMBERS

        def found() -> dict[str, Any] | None:
            known = read_json(file, "delete it") if file.is_file() else {}
            return known["numbers"] if known.get("key") == key else None

        known = on_first_rank(found)
        if known is None:
            distributions = measure(
                context,
                self.crops,
                batch=self.options.pass_images,
                pointwise=self.options.pointwise,
            )
            kinds = (distributions[kind] for kind in PAIRS)
            known = {kind: list(each) for kind, each in numbers_from(*kinds).items()}
            on_first_rank(lambda: write_json(file, {"key": key, "numbers": known}))
        numbers = {kind: PairNumbers(*map(float, each)) for kind, each in known.items()}
        if self.criterion is None:
            raise ValueError("the method must be bound to its loss first")
        self.criterion.numbers = numbers
        logger.info("measured without labels: %s", in_words(numbers))

    def after_step(self, context: Context) -> None:
        """What is exported follows the probe."""
        context.head.keep_clusters()

    def signs(self) -> Sequence[Sign]:
        """Codes that are all alike, neighbors that do not attract, clusters that are not used."""
        floor = max(1.5, _COLLAPSE * self.options.clusters)
        return (
            Sign(
                "one code",
                lambda now, _: now["code_random"] > _ONE_CODE,
                "collapse: for {patience} steps codes have been all but the same everywhere "
                "(cosine {now.code_random}). Let others of the batch repel more ({shift_random}, "
                "{weight_random}), or less attract ({shift_self}, {shift_neighbor})",
            ),
            Sign(
                "no attraction",
                lambda now, _: now["above_neighbor"] < _NO_ATTRACTION,
                "for {patience} steps {now.above_neighbor} of the correspondences to neighbors "
                "have exceeded {shift_neighbor}: nothing pulls codes together. Lower it: features "
                "of another backbone correspond less",
            ),
            Sign(
                "unused clusters",
                lambda now, _: now["clusters_in_use"] < floor,
                "for {patience} steps {now.clusters_in_use} clusters have been in use, the largest "
                "holds {now.largest_cluster} of the cells. Look at the codes (cosine to others "
                "{now.code_random}), or raise the rate of the probes ({head_peak_lr})",
            ),
        )
