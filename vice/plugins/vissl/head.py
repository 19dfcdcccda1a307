"""VISSL head ``vice_method``: what a method trains along with the embedder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from vissl.models.heads import register_model_head

from vice.methods import build_method


@register_model_head("vice_method")
def method_head(model_config: Any, settings: Mapping[str, Any]) -> nn.Module:
    """The head itself, under its own names: they stand in states.

    Args:
        model_config: ``config.MODEL``.
        settings: ``config.VICE``, which says which method; it stands here as well, so that
            VISSL's own tools can build the model of a ``train_config.yaml``.
    """
    return build_method(settings).head(int(model_config.TRUNK.VICE.dim))
