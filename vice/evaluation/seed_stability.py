"""Seed stability: how far runs of other seeds cut the same images into the same clusters."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vice.errors import UserError
from vice.evaluation.agreement import (
    adjusted_rand_index,
    contingency,
    normalized_mutual_information,
)
from vice.images import ImageError, read_image, standardize
from vice.models.checkpoint import load_checkpoint
from vice.predictor import Predictor
from vice.predictor.given_images import given_pixels
from vice.runtime.progress import progress

logger = logging.getLogger(__name__)


def cluster_stability(
    runs: Sequence[str | Path],
    images: Sequence[str | Path],
    *,
    sizes: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> dict[tuple[int, int], dict[str, float]]:
    """Agreement of each two of several runs in the nearest prototype of each pixel.

    Each run is loaded, and applied to each image, once; no more than one map of each is held.

    Args:
        runs: Run folders or checkpoints with prototypes.
        images: Image files; those that cannot be read are named in the log and left out.
        sizes: Options of `vice.images.standardize`; None leaves images as they are.
        device: Where to compute.

    Returns:
        For each pair of positions in ``runs``, the lower first, ``adjusted_rand_index`` and
        ``normalized_mutual_information`` over all pixels.

    Raises:
        UserError: A checkpoint without prototypes, or no image can be read.
    """
    predictors = [Predictor(load_checkpoint(run, device=device), device) for run in runs]
    reading = predictors[0].reading
    if any(predictor.reading != reading for predictor in predictors):
        raise UserError(
            "the runs read images in different ways (scale, bands or page): what they make of them "
            "cannot be compared"
        )
    counts = [len(predictor.checkpoint.required_concepts()) for predictor in predictors]
    pairs = itertools.combinations(range(len(runs)), 2)
    tables = {(i, j): np.zeros((counts[i], counts[j]), np.int64) for i, j in pairs}
    read = 0
    for path in progress(images, len(images), "stability between seeds"):
        try:
            image = standardize(read_image(path, reading=reading), **(sizes or {"mode": "none"}))
        except ImageError as error:
            logger.warning("left out of the stability: %s", error)
            continue
        read += 1
        maps = [predictor.segment(given_pixels(image)).numpy() for predictor in predictors]
        for (i, j), table in tables.items():
            table += contingency(maps[i], maps[j], (counts[i], counts[j]))
    if not read:
        raise UserError(f"none of the {len(images)} images for the stability can be read")
    return {
        pair: {
            "adjusted_rand_index": adjusted_rand_index(table),
            "normalized_mutual_information": normalized_mutual_information(table),
        }
        for pair, table in tables.items()
    }
