"""VISSL head ``vice_method``: what a method trains along with the embedder."""

from __future__ import annotations

from typing import Any

from torch import nn
from vissl.models.heads import register_model_head

from vice.methods import Method


@register_model_head("vice_method")
def method_head(model_config: Any, method: Method) -> nn.Module:
    """The head itself, under its own names: they stand in states.

    Args:
        model_config: ``config.MODEL``.
        method: The method.
    """
    return method.head(int(model_config.TRUNK.VICE.dim))
