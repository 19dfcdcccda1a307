"""VISSL collator ``vice_collator``: view samples to one view-major batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from vissl.data.collators import register_collator

from vice.plugins.vissl.transforms import ViewSample
from vice.views import Views
from vice.views.photometric import PhotometricParams


@register_collator("vice_collator")
def vice_collator(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacks N samples of M views each, view-major.

    Args:
        batch: What VISSL's dataset returns for N images; ``data[0]`` is a `ViewSample` that has
            been through ``vice_photometric`` or ``vice_photometric_later``.

    Returns:
        ``data``: [(M*N, 3, h, w) float32]; ``label``: [(M*N, h, w) int32 regions], which the loss
        gets as its target; ``data_idx``, ``data_valid``: [(N,) int64]; ``skipped``: list of
        reasons for images left out; ``content``: what the images hold that are watched, as
        `vice.plugins.vissl.dataset.ImageSample` has it. After ``vice_photometric_later``
        ``data`` is uint8, and ``photometric`` and ``noise`` (bool (M*N, h, w)) say what is to
        happen to it. After ``vice_views_later`` ``data`` are the N whole images, each uint8
        (H, W, 3) of its own size, and ``boxes`` (int32 (N, M, 4)) and ``flipped`` (bool (N, M)),
        NumPy arrays that stay on the host, say where the views lie.
    """
    samples = [item["data"][0] for item in batch]
    later = samples[0].params is not None
    regions = torch.from_numpy(np.stack([sample.views.regions for sample in samples], axis=1))
    return {
        "data": _raw(samples) if later else [_changed(samples)],
        "label": [regions.flatten(0, 1)],
        "data_idx": [torch.tensor([item["data_idx"][0] for item in batch])],
        "data_valid": [torch.tensor([item["data_valid"][0] for item in batch])],
        "skipped": [reason for sample in samples for reason in sample.source.skipped],
        "content": [one.source.content for one in samples if one.source.content is not None],
        **(_to_do(samples) if later else {}),
    }


def _changed(samples: list[ViewSample]) -> Tensor:
    return torch.stack([sample.images for sample in samples], dim=1).flatten(0, 1)


def _raw(samples: list[ViewSample]) -> list[Tensor]:
    """All views as one tensor, or the whole images if the views are not cut."""
    cut = [sample.views.images for sample in samples if isinstance(sample.views, Views)]
    if not cut:
        return [torch.from_numpy(np.ascontiguousarray(one.source.image)) for one in samples]
    images = torch.from_numpy(np.stack(cut, axis=1))
    return [images.flatten(0, 1).permute(0, 3, 1, 2).contiguous()]


def _to_do(samples: list[ViewSample]) -> dict[str, Any]:
    """Parameters and mask noise of all views, view-major, and where to cut them."""
    drawn = [sample.params for sample in samples if sample.params is not None]
    together = PhotometricParams.concatenate(drawn)
    views = len(samples[0].views)
    order = np.arange(len(together)).reshape(len(samples), views).T.ravel()
    noise = np.stack([sample.views.noise for sample in samples], axis=1)
    found = {"photometric": together[order], "noise": torch.from_numpy(noise).flatten(0, 1)}
    if not isinstance(samples[0].views, Views):
        for name in ("boxes", "flipped"):
            found[name] = np.stack([getattr(sample.views, name) for sample in samples])
    return found
