"""VISSL collator ``vice_collator``: view samples to one view-major batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from vissl.data.collators import register_collator


@register_collator("vice_collator")
def vice_collator(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacks N samples of M views each, view-major.

    Args:
        batch: What VISSL's dataset returns for N images; ``data[0]`` is a `ViewSample` that has
            been through ``vice_photometric``.

    Returns:
        ``data``: [(M*N, 3, h, w) float32]; ``label``: [(M*N, h, w) int32 regions], which the loss
        gets as its target; ``data_idx``, ``data_valid``: [(N,) int64]; ``skipped``: list of
        reasons for images left out.
    """
    samples = [item["data"][0] for item in batch]
    images = torch.stack([sample.images for sample in samples], dim=1).flatten(0, 1)
    regions = torch.from_numpy(np.stack([sample.views.regions for sample in samples], axis=1))
    return {
        "data": [images],
        "label": [regions.flatten(0, 1)],
        "data_idx": [torch.tensor([item["data_idx"][0] for item in batch])],
        "data_valid": [torch.tensor([item["data_valid"][0] for item in batch])],
        "skipped": [reason for sample in samples for reason in sample.source.skipped],
    }
