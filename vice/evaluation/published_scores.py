"""Scores that papers and their repositories print, under the protocol that they were taken with.

Each was read at its source. A score stands beside a result only if protocol, data set and every
changed field agree; what else differs (the trunk, the training) its model's name says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vice.evaluation.protocols import Protocol


@dataclass(frozen=True)
class PublishedScore:
    """One score of a paper or repository.

    Attributes:
        kind: Kind of evaluation, a key of `vice.evaluation.protocol_effects.KINDS`.
        protocol: Name of the protocol.
        dataset: Data set.
        readout: As `vice.evaluation.compare.readouts` names it.
        model: What was scored.
        miou: In percent; None where it is not given.
        accuracy: In percent; None where it is not given.
        source: Where it stands.
        changes: Fields of the protocol that were set otherwise.
    """

    kind: str
    protocol: str
    dataset: str
    readout: str
    model: str
    miou: float | None
    accuracy: float | None
    source: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = ["-" if value is None else f"{value:g}" for value in (self.miou, self.accuracy)]
        return f"{self.model}, {self.readout}: {' / '.join(shown)} ({self.source})"


#: mIoU on VOC 2012 with memories of 102,400, 1,024,000 and 10,240,000 vectors.
_HUMMINGBIRD = {
    "hummingbird2023": {
        "DINO ViT-S/16": (37.2, 43.1, 46.6),
        "DINO ViT-B/16": (44.9, 50.8, 55.7),
    },
    "hummingbird2023_patch14": {
        "DINOv2 ViT-S/14": (70.2, 74.9, 77.0),
        "DINOv2 ViT-B/14": (69.1, 74.6, 76.9),
        "DINOv2 ViT-L/14": (64.6, 71.7, 74.8),
        "DINOv2 ViT-g/14": (62.3, 69.9, 73.6),
    },
}

_RETRIEVAL = tuple(
    PublishedScore(
        "retrieval",
        protocol,
        "voc21",
        "retrieval hungarian_iou",
        model,
        miou,
        None,
        "open-hummingbird-eval 2.0, README",
        {} if memory == 102_400 else {"retrieval_memory": memory},
    )
    for protocol, models in _HUMMINGBIRD.items()
    for model, scores in models.items()
    for memory, miou in zip((102_400, 1_024_000, 10_240_000), scores, strict=True)
)

#: Data set, model, mIoU, accuracy, source.
_PICIE = (
    ("coco27", "PiCIE", 13.84, 48.09, "PiCIE, CVPR 2021"),
    ("coco27", "PiCIE+H", 14.36, 49.99, "PiCIE, CVPR 2021"),
    ("coco27", "PiCIE, repository", 14.79, 51.53, "PiCIE repository, log of July 2021"),
    ("coco27", "Modified DeepCluster", 9.79, 32.21, "PiCIE, CVPR 2021"),
    ("cityscapes27", "PiCIE", 12.31, 65.50, "PiCIE, CVPR 2021"),
    ("cityscapes27", "Modified DeepCluster", 7.06, 40.67, "PiCIE, CVPR 2021"),
)
#: Model, accuracy on the 15 stuff classes, source.
_IIC = (
    ("IIC", 27.7, "IIC, ICCV 2019; best epoch on the scored labels"),
    ("IIC-res12", 27.92, "PiCIE, CVPR 2021, supplement"),
)
#: mIoU on VOC 2012 with 21, 50, 100, 200 and 500 clusters.
_MASKCONTRAST = {
    "MaskContrast, MoCo v2, unsupervised saliency": (35.0, 41.4, 43.3, 45.0, 48.1),
    "MaskContrast, MoCo v2, supervised saliency": (38.9, 48.8, 49.5, 51.1, 54.2),
    "MaskContrast, ImageNet, unsupervised saliency": (41.6, 46.2, 47.3, 48.5, 51.3),
    "MaskContrast, ImageNet, supervised saliency": (44.2, 51.4, 52.5, 53.6, 57.0),
}
SCORES: tuple[PublishedScore, ...] = (
    *_RETRIEVAL,
    *(
        PublishedScore(
            "clusters", "picie2021_minibatch", data, "27 hungarian", model, miou, accuracy, source
        )
        for data, model, miou, accuracy, source in _PICIE
    ),
    PublishedScore(
        "linear",
        "stego2022_crf",
        "coco27",
        "linear",
        "STEGO, DINO ViT-B/8",
        41.0,
        76.1,
        "STEGO, ICLR 2022",
    ),
    *(
        PublishedScore(
            "clusters",
            "stego2022_crf",
            data,
            "27 hungarian",
            "STEGO, DINO ViT-B/8",
            miou,
            accuracy,
            "STEGO, ICLR 2022",
            {"clusters": "own"},
        )
        for data, miou, accuracy in (("coco27", 28.2, 56.9), ("cityscapes27", 21.0, 73.2))
    ),
    *(
        PublishedScore(
            "clusters", "iic2019", "coco27", "15 hungarian", model, None, accuracy, source
        )
        for model, accuracy, source in _IIC
    ),
    *(
        PublishedScore(
            "linear",
            "maskcontrast2021_linear",
            "voc21",
            "linear, best epoch",
            f"MaskContrast, {model} saliency",
            miou,
            None,
            "MaskContrast repository, README; best epoch on the scored labels",
        )
        for model, miou in (("MoCo v2, unsupervised", 58.4), ("ImageNet, supervised", 63.9))
    ),
    *(
        PublishedScore(
            "clusters",
            "maskcontrast2021_kmeans",
            "voc21",
            f"{k} {'hungarian' if k == 21 else 'argmax'}_iou",
            model,
            miou,
            None,
            "MaskContrast, ICCV 2021, supplement table 1",
        )
        for model, scores in _MASKCONTRAST.items()
        for k, miou in zip((21, 50, 100, 200, 500), scores, strict=True)
    ),
)


def published_scores(kind: str, protocol: Protocol) -> list[PublishedScore]:
    """Scores that were published of the same kind, under the same protocol on the same data."""
    changes = protocol.changed()
    return [
        score
        for score in SCORES
        if (score.kind, score.protocol, score.dataset) == (kind, protocol.name, protocol.dataset)
        and dict(score.changes) == changes
    ]


def describe_published(kind: str, protocol: Protocol) -> list[dict[str, Any]]:
    """The same for ``results.json``."""
    return [asdict(score) for score in published_scores(kind, protocol)]
