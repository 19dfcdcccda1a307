"""VISSL head ``vice_method``: what a method trains along with the embedder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from vissl.models.heads import register_model_head

from vice.methods import build_method
from vice.precision import full_precision


@register_model_head("vice_method")
def method_head(model_config: Any, settings: Mapping[str, Any]) -> nn.Module:
    """The head itself, under its own names: they stand in states.

    Args:
        model_config: ``config.MODEL``.
        settings: ``config.VICE``, which says which method; it stands here as well, so that
            VISSL's own tools can build the model of a ``train_config.yaml``.
    """
    method = build_method(settings)
    head = method.head(int(model_config.TRUNK.VICE.dim))
    if not method.low_precision:
        head.register_forward_pre_hook(_in_full_precision)
    return head


def _in_full_precision(head: nn.Module, maps: tuple[Any, ...]) -> tuple[Any, ...]:
    del head
    return tuple(full_precision(each) if isinstance(each, Tensor) else each for each in maps)
