"""VISSL collator ``vice_collator``: view samples to one view-major batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from vissl.data.collators import register_collator

from vice.photometric import PhotometricParams
from vice.plugins.vissl.transforms import ViewSample


@register_collator("vice_collator")
def vice_collator(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacks N samples of M views each, view-major.

    Args:
        batch: What VISSL's dataset returns for N images; ``data[0]`` is a `ViewSample` that has
            been through ``vice_photometric`` or ``vice_photometric_later``.

    Returns:
        ``data``: [(M*N, 3, h, w) float32]; ``label``: [(M*N, h, w) int32 regions], which the loss
        gets as its target; ``data_idx``, ``data_valid``: [(N,) int64]; ``skipped``: list of
        reasons for images left out. After ``vice_photometric_later`` ``data`` is uint8, and
        ``photometric`` and ``noise`` (bool (M*N, h, w)) say what is to happen to it.
    """
    samples = [item["data"][0] for item in batch]
    later = samples[0].params is not None
    regions = torch.from_numpy(np.stack([sample.views.regions for sample in samples], axis=1))
    return {
        "data": [_raw(samples) if later else _changed(samples)],
        "label": [regions.flatten(0, 1)],
        "data_idx": [torch.tensor([item["data_idx"][0] for item in batch])],
        "data_valid": [torch.tensor([item["data_valid"][0] for item in batch])],
        "skipped": [reason for sample in samples for reason in sample.source.skipped],
        **(_to_do(samples) if later else {}),
    }


def _changed(samples: list[ViewSample]) -> Tensor:
    return torch.stack([sample.images for sample in samples], dim=1).flatten(0, 1)


def _raw(samples: list[ViewSample]) -> Tensor:
    images = np.stack([sample.views.images for sample in samples], axis=1)
    return torch.from_numpy(images).flatten(0, 1).permute(0, 3, 1, 2).contiguous()


def _to_do(samples: list[ViewSample]) -> dict[str, Any]:
    """Parameters and mask noise of all views, view-major."""
    drawn = [sample.params for sample in samples if sample.params is not None]
    together = PhotometricParams.concatenate(drawn)
    views = len(samples[0].views.images)
    order = np.arange(len(together)).reshape(len(samples), views).T.ravel()
    noise = np.stack([sample.views.noise for sample in samples], axis=1)
    return {"photometric": together[order], "noise": torch.from_numpy(noise).flatten(0, 1)}
