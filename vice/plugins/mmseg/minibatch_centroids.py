"""PiCIE's mini-batch k-means over the images of the fitted split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.device import get_device

from vice.datasets import LabelledSet
from vice.errors import UserError
from vice.evaluation.task import Task
from vice.minibatch_kmeans import MiniBatchKMeans
from vice.models.centroids import Centroids
from vice.models.load import is_spherical
from vice.plugins.mmseg.backbone import SharedEmbedder
from vice.plugins.mmseg.dataset import CROPS
from vice.plugins.mmseg.running import dataset_config
from vice.plugins.mmseg.sample_embeddings import embed_images
from vice.runtime.provenance import digest

logger = logging.getLogger(__name__)


def fit_minibatch(
    config: Config,
    task: Task,
    shared: SharedEmbedder,
    clusters: Sequence[int],
    data: LabelledSet,
    scratch: Path,
) -> dict[int, Centroids]:
    """Fits all numbers of clusters in one pass.

    Args:
        config: As in `vice.plugins.mmseg.sample_embeddings.embed_images`.
        task: Its protocol says how the groups are made.
        shared: The embedder.
        clusters: Numbers of clusters K.
        data: The data set that is fitted on.
        scratch: Folder for the vectors of the first groups, if all are kept.

    Returns:
        K to centroids, the same on all ranks up to the order of summation.

    Raises:
        UserError: An embedder of whose vectors the lengths count, or too few pixels.
    """
    if not is_spherical(shared.embedder):
        raise UserError(
            f"clusters=minibatch compares directions, but of {task.spec} the lengths count: take "
            "clusters=kmeans"
        )
    protocol, dim = task.protocol, shared.embedder.dim
    pairs = data.pairs(protocol.fit_split, labels=protocol.fit_labels)
    images, size = len(pairs) * CROPS[protocol.fit_crops], protocol.minibatch_images
    order = np.random.default_rng(task.seed).permutation(images).tolist()
    groups = -(-images // size)
    if groups < protocol.minibatch_init:
        logger.warning(
            "%d groups of %d images, fewer than the %d to start from: centroids never move "
            "afterwards", groups, size, protocol.minibatch_init,
        )  # fmt: skip
    fits = [
        MiniBatchKMeans(
            k,
            dim,
            init_groups=protocol.minibatch_init,
            init_maps=min(images, size * protocol.minibatch_init),
            iterations=protocol.kmeans_iterations,
            init_points=protocol.kmeans_pixels or None,
            seed=task.seed,
            device=task.device or get_device(),
            scratch=scratch,
        )
        for k in clusters
    ]
    ended = 0
    dataset = {**dataset_config(task, "fit"), "indices": order}
    for image in embed_images(config, task, shared, dataset):
        ended = _end_groups(fits, ended, image.index // size)
        unit = F.normalize(image.embedding, dim=0)
        for fit in fits:
            fit.add([unit], [order[image.index]])
    _end_groups(fits, ended, groups)
    weights = digest(shared.embedder)
    return {
        k: _centroids(fit, task.seed).of_model(weights)
        for k, fit in zip(clusters, fits, strict=True)
    }


def _end_groups(fits: Sequence[MiniBatchKMeans], ended: int, end: int) -> int:
    """Ends the groups before number ``end``; every rank comes to each, with images or without."""
    for _ in range(ended, end):
        for fit in fits:
            fit.end_group()
    return max(ended, end)


def _centroids(fit: MiniBatchKMeans, seed: int) -> Centroids:
    fit.finish()
    occupied = int((fit.counts > 0).sum())
    if occupied < len(fit.centroids):
        logger.warning(
            "mini-batch k-means: only %d of %d clusters are not empty: the embedding may be nearly "
            "the same everywhere", occupied, len(fit.centroids),
        )  # fmt: skip
    return Centroids(
        fit.centroids.cpu(),
        spherical=False,
        objective=[fit.loss],
        seed=seed,
        vectors_fitted=round(float(fit.counts.sum())),
        occupied=occupied,
        unit_dot=True,
    )
