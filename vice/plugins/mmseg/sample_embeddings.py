"""A sample of the embeddings of a split, through MMSegmentation's data pipeline."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmseg.registry import MODELS
from torch import Tensor

from vice.evaluation.pixel_sampler import PixelSampler
from vice.evaluation.task import Task
from vice.plugins.mmseg.backbone import SharedEmbedder
from vice.plugins.mmseg.running import dataset_config
from vice.plugins.mmseg.watching import image_names
from vice.runtime.collectives import cpu_group, rank, world_size
from vice.runtime.progress import progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedImage:
    """One image of a split that things are fitted on.

    Attributes:
        embedding: float32 (D, h, w), not normalised.
        size: (H, W) of the network's input.
        sample: Its `SegDataSample`, with the label map where the pipeline reads it.
        index: Number of the image, or of its crop, in the data set.
        image: What went into the network, float32 (3, H, W).
        pixels: What the pipeline gives, uint8 BGR (3, H, W).
    """

    embedding: Tensor
    size: tuple[int, int]
    sample: Any
    index: int
    image: Tensor
    pixels: Tensor

    @property
    def label(self) -> Tensor | None:
        """Its label map, integer (H, W), 255 = ignored; None where the pipeline reads none."""
        labels = getattr(self.sample, "gt_sem_seg", None)
        return None if labels is None else labels.data[0]


@torch.no_grad()
def embed_images(
    config: Config,
    task: Task,
    shared: SharedEmbedder,
    dataset: dict[str, Any],
    *,
    training: bool = False,
) -> Iterator[EmbeddedImage]:
    """Embeds this rank's share of the images of a data set.

    Args:
        config: Its test loader, data preprocessor and backbone are used.
        task: What is scored on what.
        shared: Handed to the backbone if that means it.
        dataset: Config of the data set, see `vice.plugins.mmseg.running.dataset_config`.
        training: Whether the embedding is that of a probe's training, without the mirror average.

    Yields:
        The images in their order.

    Raises:
        UserError: An embedding that is not finite; it names the image.
    """
    device = task.device or get_device()
    loader_config = copy.deepcopy(config.test_dataloader)
    loader_config.dataset = dataset
    # Sampler padding is off: no image is repeated to give all ranks the same number.
    loader_config.sampler.round_up = False
    with DefaultScope.overwrite_default_scope("mmseg"):
        loader = Runner.build_dataloader(loader_config, seed=task.seed)
        backbone = MODELS.build(shared.hand_to(config.model.backbone)).to(device).train(training)
        preprocessor = MODELS.build(config.model.data_preprocessor).to(device)
        index = rank()
        scoring = dataset["role"] == "score"
        split = task.protocol.score_split if scoring else task.protocol.fit_split
        for batch in progress(loader, len(loader), f"embedding {split} images"):
            data = preprocessor(batch, False)
            backbone.watch.names = image_names(data["data_samples"])
            embeddings, size = backbone(data["inputs"])[-1], tuple(data["inputs"].shape[2:])
            samples = zip(
                embeddings, data["data_samples"], data["inputs"], batch["inputs"], strict=True
            )
            for embedding, sample, image, pixels in samples:
                yield EmbeddedImage(embedding, size, sample, index, image, pixels)
                index += world_size()
        backbone.watch.look()


def sample_split(
    config: Config,
    task: Task,
    shared: SharedEmbedder,
    pixels: int,
    *,
    labelled: bool = False,
) -> Tensor | None:
    """Draws pixels uniformly from all images of the split that things are fitted on.

    Each rank embeds its share of the images; the sample does not depend on the number of ranks.

    Args:
        config: Its test loader, data preprocessor and backbone are used.
        task: What is scored on what.
        shared: Handed to the backbone if that means it.
        pixels: Most pixels that are drawn.
        labelled: Whether pixels are drawn from those with a label alone, as train images show
            them. Otherwise labels play no part: ignored pixels are drawn like all others.

    Returns:
        Their embeddings at the size of the network's input, float32 (N, D) on the CPU, not
        normalised; None on all ranks but the first. With labels (N, D + 1), the class of each pixel
        being the last entry.

    Raises:
        UserError: An embedding that is not finite; it names the image.
    """
    dim = shared.embedder.dim
    mib = pixels * dim * 4 / 2**20
    logger.info("sampling at most %d pixels: %.0f MiB, twice that in between", pixels, mib)
    sampler = PixelSampler(pixels, task.seed)
    role = "train" if labelled else "fit"
    dataset = dataset_config(task, role)
    # Flip average is off: a probe is fitted without it, whatever its optimizer.
    for image in embed_images(config, task, shared, dataset, training=role == "train"):
        labels = image.sample.gt_sem_seg.data[0] if labelled else None
        sampler.add(image.embedding, image.size, image.index, labels)
    sampler.gather(cpu_group())
    return sampler.vectors() if rank() == 0 else None
