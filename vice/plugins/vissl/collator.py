"""VISSL collator ``vice_collator``: samples to one batch, as their method puts them together."""

from __future__ import annotations

import pickle
from typing import Any

import torch
from torch.utils.data import get_worker_info
from vissl.data.collators import register_collator

from vice.errors import UserError, brief
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
    collated = samples[0].collate([sample.drawn for sample in samples])
    _check_sendable(samples[0].collate, collated)
    index = torch.tensor([item["data_idx"][0] for item in batch])
    return {
        "data": [],
        "label": [index],
        "data_idx": [index],
        "data_valid": [torch.tensor([item["data_valid"][0] for item in batch])],
        "skipped": [reason for sample in samples for reason in sample.skipped],
        "content": [sample.content for sample in samples if sample.content is not None],
        "method": collated,
    }


#: Collators whose first batch in this process could be sent to another one.
_sendable: set[str] = set()


def _check_sendable(collate: Any, collated: Any) -> None:
    """Refuses what cannot be pickled, by the name of what returned it, before it is sent."""
    name = str(getattr(collate, "__qualname__", collate))
    if name in _sendable or get_worker_info() is None:
        return
    try:
        pickle.dumps(collated)
    # Catch-all: what is pickled says itself how.
    except Exception as error:
        raise UserError(
            f"{name}() returned what cannot be sent from one process to another ({brief(error)}): "
            "return tensors, arrays and plain values"
        ) from error
    _sendable.add(name)
