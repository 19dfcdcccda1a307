"""VISSL collator ``vice_collator``: samples to one batch, as their method puts them together."""

from __future__ import annotations

from typing import Any

import torch
from vissl.data.collators import register_collator

from vice.plugins.vissl.dataset import MethodSample


@register_collator("vice_collator")
def vice_collator(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """Puts N samples together.

    Args:
        batch: What VISSL's dataset returns for N images; ``data[0]`` is a `MethodSample`.

    Returns:
        ``method``: what `vice.methods.Method.collate` returns. ``data``: nothing before the step
        fills it in. ``label``, which VISSL wants: [(N,) int64 indices of the samples].
        ``data_idx``, ``data_valid``: [(N,) int64]; ``skipped``: list of reasons for images left
        out; ``content``: what the images hold that are watched.
    """
    samples: list[MethodSample] = [item["data"][0] for item in batch]
    index = torch.tensor([item["data_idx"][0] for item in batch])
    return {
        "data": [],
        "label": [index],
        "data_idx": [index],
        "data_valid": [torch.tensor([item["data_valid"][0] for item in batch])],
        "skipped": [reason for sample in samples for reason in sample.skipped],
        "content": [sample.content for sample in samples if sample.content is not None],
        "method": samples[0].collate([sample.drawn for sample in samples]),
    }
