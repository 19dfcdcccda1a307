"""Any number of read-outs of an embedder on one pass over each split."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmengine.config import Config

from vice.datasets import LabelledSet
from vice.evaluation.task import Task
from vice.plugins.mmseg.backbone import SharedEmbedder
from vice.plugins.mmseg.dataset import CROPS
from vice.plugins.mmseg.pipelines import build_fit_pipeline
from vice.plugins.mmseg.readouts import Readout
from vice.plugins.mmseg.runner import quiet_own_log
from vice.plugins.mmseg.running import dataset_config
from vice.plugins.mmseg.sample_embeddings import EmbeddedImage, embed_images
from vice.runtime.collectives import all_reduce_
from vice.runtime.progress import progress
from vice.runtime.step_meter import StepMeter

logger = logging.getLogger(__name__)


_NOTHING = torch.empty(0)


class KeptImages:
    """Embedded images of a split in main memory, all of them or none.

    Args:
        max_bytes: Most bytes that they may take: embeddings as they are, label maps with one byte
            a pixel.

    Attributes:
        images: What is kept, in order.
        whole: Whether every image that was added is there.
        used_bytes: Their size; with too many, up to the first that did not fit.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.images: list[EmbeddedImage] = []
        self.whole, self.used_bytes = True, 0

    def add(self, image: EmbeddedImage) -> None:
        """Keeps an image, or gives up all where it does not fit."""
        if not self.whole:
            return
        labels = image.sample.gt_sem_seg.data.to("cpu", torch.uint8)
        embedding = image.embedding
        self.used_bytes += embedding.numel() * embedding.element_size() + labels.numel()
        if self.used_bytes > self.max_bytes:
            self.images, self.whole = [], False
            return
        image.sample.gt_sem_seg.data = labels
        # The pass may hand out views of a batch, and labels at the input's size are done with.
        image.sample.pop("gt_at_input", None)
        in_main_memory = embedding.to("cpu", copy=True)
        kept = {"embedding": in_main_memory, "image": _NOTHING, "pixels": _NOTHING}
        self.images.append(dataclasses.replace(image, **kept))


def read_out(
    readouts: Sequence[Readout],
    config: Config,
    task: Task,
    shared: SharedEmbedder,
    sets: tuple[LabelledSet, LabelledSet],
    memory_limit: int,
    meter: StepMeter,
) -> dict[str, Any]:
    """Fits read-outs on one pass over the fitted split and counts on one over the scored split.

    The fitted split is embedded a second time where a read-out goes through it again and its
    embeddings take more than the memory limit. Embeddings are those that the evaluation of each
    kind computes for itself: the same images, one at a time, in float32.

    Args:
        readouts: What is read out; their protocols agree in all that an image goes through.
        config: Its loader, data preprocessor and backbone are used.
        task: What is scored on what.
        shared: The embedder.
        sets: Data sets that are fitted on and scored.
        memory_limit: Most bytes of embeddings and label maps of the fitted split that are kept.
        meter: Gets the steps.

    Returns:
        For ``results.json``: ``readouts``, ``passes`` over each split, ``kept_mib`` and
        ``memory_limit_mib``.

    Raises:
        UserError: Numbers that are not finite, or no labelled pixel that could be counted.
    """
    quiet_own_log(task.log_level)
    fitted = dataset_config(task, "fit")
    probes = [readout for readout in readouts if readout.at_input]
    if probes:
        fitted["pipeline"] = build_fit_pipeline(probes[0].task.protocol)
    again = [readout for readout in readouts if readout.again]
    kept = KeptImages(memory_limit if again else 0)
    with meter.step("embed the fitted split"), torch.no_grad():
        for image in embed_images(config, task, shared, fitted):
            for readout in readouts:
                readout.see(image)
            if again:
                kept.add(image)
    # All ranks must go the same way.
    whole = not all_reduce_(torch.tensor(int(not kept.whole)), "max").item()
    for readout in readouts:
        readout.fit(meter)
    if again:
        label = f"mapping clusters on {task.protocol.fit_split} images"
        images = (
            progress(kept.images, len(kept.images), label)
            if whole
            else _embed_again(config, task, shared, fitted)
        )
        _go_again(again, images, meter)
        count = len(sets[0].pairs(task.protocol.fit_split)) * CROPS[task.protocol.fit_crops]
        for readout in again:
            readout.gather(count)
    used = kept.used_bytes
    del kept
    scored = dataset_config(task, "score")
    with meter.step("embed and score"), torch.no_grad():
        for image in embed_images(config, task, shared, scored):
            for readout in readouts:
                readout.count(image)
    for readout in readouts:
        readout.close(len(sets[1].pairs(task.protocol.score_split)), meter)
    return {
        "readouts": [readout.kind for readout in readouts],
        "passes": {"fit": 2 if again and not whole else 1, "score": 1},
        "kept_mib": round(used / 2**20) if again and whole else 0,
        "memory_limit_mib": round(memory_limit / 2**20),
    }


def _embed_again(
    config: Config, task: Task, shared: SharedEmbedder, fitted: dict[str, Any]
) -> Iterable[EmbeddedImage]:
    logger.warning(
        "the embeddings of %s take more memory than may be kept: it is embedded twice",
        task.protocol.fit_split,
    )
    return embed_images(config, task, shared, fitted)


def _go_again(
    readouts: Sequence[Readout], images: Iterable[EmbeddedImage], meter: StepMeter
) -> None:
    with meter.step("map the clusters"), torch.no_grad():
        for image in images:
            for readout in readouts:
                readout.see_again(image)
    for readout in readouts:
        readout.watch.look()
