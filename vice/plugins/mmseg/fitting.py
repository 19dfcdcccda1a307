"""A sample of the embeddings of a split, through MMSegmentation's data pipeline."""

from __future__ import annotations

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmseg.registry import MODELS
from torch import Tensor

from vice.plugins.mmseg.running import Task
from vice.progress import progress
from vice.sampling import PixelSampler


@torch.no_grad()
def sample_split(config: Config, task: Task, max_pixels: int) -> tuple[Tensor, bool]:
    """Draws pixels uniformly from all images of the split that things are fitted on.

    Labels play no part: ignored pixels are drawn like all others.

    Args:
        config: Its test pipeline, data preprocessor and backbone are used.
        task: What is scored on what.
        max_pixels: Most pixels drawn.

    Returns:
        Their embeddings at image resolution, float32 (N, D) on the CPU, not normalised, and
        whether clusters of them are spherical.
    """
    device = task.device or get_device()
    loader_config = config.test_dataloader.copy()
    loader_config.dataset.split = task.split_fit
    with DefaultScope.overwrite_default_scope("mmseg"):
        loader = Runner.build_dataloader(loader_config, seed=task.seed)
        backbone = MODELS.build(config.model.backbone).to(device).eval()
        preprocessor = MODELS.build(config.model.data_preprocessor).to(device)
        sampler, index = PixelSampler(max_pixels, task.seed), 0
        for batch in progress(loader, len(loader), f"embedding {task.split_fit} images"):
            data = preprocessor(batch, False)
            for embedding in backbone(data["inputs"])[-1].float():
                sampler.add(embedding, tuple(data["inputs"].shape[2:]), index)
                index += 1
    return sampler.vectors(), backbone.spherical
