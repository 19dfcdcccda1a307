"""Evaluation protocols as data: what is fitted and scored, where, and at which resolution.

A protocol is one flat record. Its hash covers every field, so two results with the same hash were
taken in the same way, and any change gives another hash. The named ones are in
`vice.evaluation.published`; its `NOTES` say what each follows, and where a paper's own pipeline
does more than a ruler for any embedder can.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vice.datasets import DATASETS
from vice.datasets.label_sets import table_checksum
from vice.errors import UserError
from vice.evaluation.protocol_checks import check_protocol
from vice.evaluation.published import CITYSCAPES, FOR, PROTOCOLS
from vice.nearest import did_you_mean


@dataclass(frozen=True)
class Protocol:
    """How an embedder is evaluated on a data set; get one with `get_protocol`.

    Attributes:
        name: Name of the protocol.
        dataset: Data set, which fixes the label set; ``"folder"`` for any plain folder.
        fit_split: Split that probe, centroids and greedy mapping are fitted on; ``a+b`` joins two.
        score_split: Split that is scored.
        fit_labels: Whether the fitted split has labels; without, only centroids can be fitted.
        fit_crops: ``"whole"``, or ``"five"`` for the four corners and the centre of each image.
        fit_crop_ratio: Sides of the five crops as a share of the image's.
        resize: ``"none"``; ``"short"``: the shorter side becomes ``size[0]``; ``"within"``: the
            image becomes as large as fits ``size`` (longer, shorter side); ``"exact"``: ``size``
            is (height, width); ``"factor"``: both sides are multiplied by ``resize_factor``.
        size: Pixels, see ``resize``.
        fit_size: The same for the fitted split; empty means ``size``.
        interpolation: Of images, ``"bilinear"``, ``"bicubic"`` or ``"nearest"``; labels are always
            resized to the nearest pixel.
        resize_library: ``"torchvision"`` (on Pillow images; low-pass filters when it shrinks) or
            ``"opencv"`` (through MMCV; does not).
        crop: Side of the central square cut out after resizing; 0 for none.
        fit_crop: The same for the fitted split; 0 means ``crop``.
        score_at: ``"original"``: predictions are resized to the stored label map; ``"input"``: the
            label map is resized and cropped like the image.
        flip_average: Whether the embedding is the mean over the image and its mirror image when
            scoring, fitting centroids and mapping them.
        upsample: ``"scores"`` (class or cluster scores are upsampled, then compared), ``"input"``
            (upsampled to the network's input and compared there, then repeated) or ``"classes"``
            (compared at the model's stride, then repeated). With ``clusters="own"`` also
            ``"probabilities"``: the softmax of the scores is upsampled, then compared.
        matchings: What the clusters' classes come from: ``"greedy"`` (majority on the fitted
            split), ``"hungarian"`` (optimal on the scored split).
        kmeans_pixels: Most pixels that k-means sees.
        kmeans_iterations: Of k-means.
        linear_optimizer: ``"sgd"`` (momentum 0.9, weight decay 5e-4, poly 0.9 down to 1e-4),
            ``"adam"`` (constant rate) or ``"lbfgs"``: logistic regression on a sample of labelled
            pixels, fitted to convergence (see `vice.evaluation.logistic.fit_logistic`). It takes
            no steps over images, so ``linear_lr``, ``linear_batch``, ``linear_flip`` and
            ``linear_photometric`` are without effect, and it has no bottleneck.
        linear_lr: Learning rate of the probe.
        linear_iterations: Its steps; with ``"lbfgs"`` the most iterations.
        linear_batch: Images a step.
        linear_flip: Whether train images are mirrored at random.
        linear_photometric: Whether their colours are changed at random.
        linear_bottleneck: Width of the bottleneck variant (ViCE table 8, "#"); 0 for the plain
            probe.
        linear_pixels: Most labelled pixels that ``"lbfgs"`` sees, drawn uniformly from those of the
            fitted split at the size of the network's input.
        linear_l2: Weight of its penalty: it minimises mean cross-entropy + linear_l2 / 2 · Σ w²
            over the weights w on standardised features (mean 0, deviation 1 over the sample); the
            biases are free.
        std: Deviations that images are normalised with: ``"imagenet"``, or ``"original"``, those
            of the harness that `vice.evaluation.retrieval` names, whose third is 0.255.
        miou_over: Classes that mIoU is the mean of: ``"present"`` (in the labels or predicted), or
            ``"all"``; one that never occurs then counts 0.
        retrieval_memory: Number of vectors M that the memory of nearest-neighbour retrieval aims
            at: each train image gives max(1, M // images) patches.
        retrieval_neighbours: Neighbours k of a patch.
        retrieval_temperature: Of the softmax over their cosines.
        retrieval_grid: What a patch is: ``"native"``, a cell of the embedding, or ``"patch"``, the
            mean of the cells in a square of ``retrieval_patch`` pixels.
        retrieval_patch: Side of that square.
        retrieval_ignored: Ignored pixels of the memory's images: ``"left_out"``, or ``"class0"``,
            counted as the first class.
        retrieval_matchings: Which classes predictions count as: ``"none"``, as they are,
            ``"hungarian"``, ``"hungarian_iou"`` (see `vice.evaluation.matchings`).
        same_split: ``"published"`` where a paper fits inside the scored split; ``"off"`` refuses
            that.
        clusters: What clusters are: ``"kmeans"``, of `vice.clustering.fit_kmeans`, or
            ``"minibatch"``: PiCIE's mini-batch k-means over unit vectors at the stride of the
            model (`vice.minibatch_kmeans`), images in an order that follows from the seed; a pixel
            belongs to the raw centroid with the greatest inner product. ``kmeans_pixels`` is then
            the number of pixels that Lloyd's algorithm starts from, 0 for all of the first groups.
            Or ``"objects"``: each image has one object, the mean embedding of its foreground, and
            K - 1 clusters of objects and the background make K (`vice.evaluation.objects`).
            Or ``"own"``: those that the checkpoint was trained with, such as the classes of its
            head; nothing is fitted.
        minibatch_images: Images of a group.
        minibatch_init: Groups that Lloyd's algorithm starts from.
        foreground: Where an object's foreground comes from: ``"model"``, a second output of the
            embedder (raw logits); ``"files"``, masks (0 is background); ``"label"``, all labelled
            pixels but those of class 0.
        foreground_threshold: Of the model's: ``"logit"`` above 0.5, or ``"probability"`` above 0.5.
        objects_components: Whitened principal components of the objects.
        objects_batch: Objects of a step of their mini-batch k-means.
        objects_seeds: Its seeds; scores are means over them.
        crf: ``"dense"``: predictions of probes and clusters are refined by a dense conditional
            random field at the size of the network's input (`vice.evaluation.dense_crf`), of
            clusters from the softmax of twice the cosine. ``"none"``: as they are.
        features: Which dense output is scored: ``"embedding"``, or ``"decoder"``, the features
            that a decoder projects the embedding from.
        linear_epochs: Passes over the fitted split instead of ``linear_iterations`` steps, each
            without the images that are left over of its last batch; 0 counts steps.
        linear_schedule: Of SGD's rate: ``"poly"``, see ``linear_optimizer``, or ``"step"``, a tenth
            from epoch ``linear_step_epoch`` on (counted from 0).
        linear_step_epoch: That epoch.
        linear_weight_decay: Of SGD.
        linear_rotation: Train images are turned by up to so many degrees about their center before
            they are resized; what is uncovered is black, and of class 0.
        linear_scale: Least and greatest factor that they are scaled by then; empty: 1.
        resize_factor: See ``resize``; sides are rounded.
        pad: Images that are smaller after resizing get black around them, on both sides alike, up
            to this side; its pixels are not labelled. 0 for none.
        label_part: Part of the classes whose pixels are labelled; those of the others are ignored
            (see `vice.datasets.label_sets.partition`). ``"all"``: every class.
        exif: What the data sets say of EXIF orientations: ``"layout"``, folders are turned by them
            and releases read as they are stored; ``"ignore"``, a described folder is read as it is
            stored; ``"fit_ignore"`` and ``"score_ignore"``: only the fitted or the scored one of
            two data sets is. It follows from their ``dataset.yaml``.
    """

    name: str
    dataset: str
    fit_split: str = "train"
    score_split: str = "val"
    fit_labels: bool = True
    fit_crops: str = "whole"
    fit_crop_ratio: float = 0.5
    resize: str = "none"
    size: tuple[int, ...] = ()
    fit_size: tuple[int, ...] = ()
    interpolation: str = "bilinear"
    resize_library: str = "opencv"
    crop: int = 0
    fit_crop: int = 0
    score_at: str = "original"
    flip_average: bool = False
    upsample: str = "scores"
    matchings: tuple[str, ...] = ("greedy", "hungarian")
    kmeans_pixels: int = 500_000
    kmeans_iterations: int = 20
    linear_optimizer: str = "sgd"
    linear_lr: float = 0.01
    linear_iterations: int = 12_000
    linear_batch: int = 16
    linear_flip: bool = True
    linear_photometric: bool = False
    linear_bottleneck: int = 0
    linear_pixels: int = 200_000
    linear_l2: float = 1e-4
    std: str = "imagenet"
    miou_over: str = "present"
    retrieval_memory: int = 102_400
    retrieval_neighbours: int = 30
    retrieval_temperature: float = 0.02
    retrieval_grid: str = "native"
    retrieval_patch: int = 16
    retrieval_ignored: str = "left_out"
    retrieval_matchings: tuple[str, ...] = ("none",)
    same_split: str = "off"
    clusters: str = "kmeans"
    minibatch_images: int = 256
    minibatch_init: int = 20
    foreground: str = "model"
    foreground_threshold: str = "logit"
    crf: str = "none"
    features: str = "embedding"
    linear_epochs: int = 0
    linear_schedule: str = "poly"
    linear_step_epoch: int = 26
    linear_weight_decay: float = 5e-4
    linear_rotation: float = 0.0
    linear_scale: tuple[float, ...] = ()
    objects_components: int = 32
    objects_batch: int = 1000
    objects_seeds: tuple[int, ...] = (1234, 1235, 1236, 1237, 1238)
    resize_factor: float = 1.0
    pad: int = 0
    label_part: str = "all"
    exif: str = "layout"

    def __post_init__(self) -> None:
        check_protocol(self)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that depend on every field and on the table of labels.

        Fields that are younger than published hashes count where they differ from their default.
        """
        known = DATASETS.get(self.dataset)
        labels = table_checksum(known.labels) if known else None
        text = json.dumps(
            {**hashed_fields(dataclasses.asdict(self)), "label_table": labels}, sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def changed(self) -> dict[str, Any]:
        """Fields that differ from the published form of the same name, with their values here."""
        if self.name not in PROTOCOLS:
            return {}
        original = dataclasses.asdict(get_protocol(self.name, self.dataset))
        return {k: v for k, v in dataclasses.asdict(self).items() if v != original[k]}

    def title(self) -> str:
        """Name and hash, and what was changed, for example ``vice2022_lowres (1f2e…)``."""
        changed = "".join(f", {key}={value}" for key, value in self.changed().items())
        inside = ", fitted inside the scored split" if self.same_split == "published" else ""
        return f"{self.name}{changed}{inside} ({self.hash})"


#: Fields that results of earlier releases do not have; their defaults are what was done then.
_YOUNGER = (
    "linear_pixels",
    "linear_l2",
    "std",
    "miou_over",
    "retrieval_memory",
    "retrieval_neighbours",
    "retrieval_temperature",
    "retrieval_grid",
    "retrieval_patch",
    "retrieval_ignored",
    "retrieval_matchings",
    "same_split",
    "clusters",
    "minibatch_images",
    "minibatch_init",
    "foreground",
    "foreground_threshold",
    "crf",
    "features",
    "linear_epochs",
    "linear_schedule",
    "linear_step_epoch",
    "linear_weight_decay",
    "linear_rotation",
    "linear_scale",
    "objects_components",
    "objects_batch",
    "objects_seeds",
    "resize_factor",
    "pad",
    "label_part",
    "exif",
)


def get_protocol(name: str, dataset: str = "folder", **changes: Any) -> Protocol:
    """A named protocol for a data set.

    Args:
        name: A key of ``PROTOCOLS``.
        dataset: A key of `vice.datasets.DATASETS`, or ``"folder"``.
        **changes: Fields to set otherwise; the hash then differs from the published protocol's.

    Returns:
        The protocol.

    Raises:
        UserError: No such protocol, data set or field, or a value that is not allowed.
    """
    if name not in PROTOCOLS:
        near = did_you_mean(str(name), PROTOCOLS, f"choose one of {', '.join(PROTOCOLS)}")
        raise UserError(f"protocol {name!r} is unknown{near}")
    if dataset != "folder" and dataset not in DATASETS:
        near = did_you_mean(dataset, DATASETS, f"choose {', '.join(DATASETS)} or a path")
        raise UserError(f"data set {dataset!r} is unknown{near}")
    fields = {f.name for f in dataclasses.fields(Protocol)} - {"name", "dataset"}
    unknown = sorted(set(changes) - fields)
    if unknown:
        near = did_you_mean(unknown[0], fields, f"choose one of {', '.join(sorted(fields))}")
        raise UserError(f"protocol field {unknown[0]!r} is unknown{near}")
    values = {**PROTOCOLS[name], **FOR.get((name, dataset), {})}
    if dataset in DATASETS:
        values.setdefault("score_split", DATASETS[dataset].score)
    return from_dict({"name": name, "dataset": dataset, **values, **changes})


def hashed_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that enter the hash, which lack younger ones at their default, as older results do."""
    defaults = {field.name: field.default for field in dataclasses.fields(Protocol)}
    # JSON has lists for tuples.
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return {k: v for k, v in fields.items() if k not in _YOUNGER or values[k] != defaults[k]}


def default_protocol(dataset: str) -> str:
    """Name of the protocol for a data set when none is asked for."""
    return "vice2022_highres" if dataset in ("coco27", *CITYSCAPES) else "native"


def from_dict(values: dict[str, Any]) -> Protocol:
    """A protocol from its fields, as JSON gives them (lists for tuples).

    Raises:
        UserError: A field of the wrong type, or what `get_protocol` raises of a value.
    """
    fields = {field.name: field for field in dataclasses.fields(Protocol)}
    typed = {}
    for name, value in values.items():
        kind = type(fields[name].default)
        value = tuple(value) if isinstance(value, list) else value
        if kind is float and type(value) is int:
            value = float(value)
        if name not in ("name", "dataset") and type(value) is not kind:
            raise UserError(
                f"protocol: {name} is {value!r}, which is {type(value).__name__}, not "
                f"{kind.__name__}"
            )
        typed[name] = value
    return Protocol(**typed)
