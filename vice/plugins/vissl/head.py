"""VISSL head ``vice_prototypes``."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from vissl.models.heads import register_model_head

from vice.models import Prototypes


@register_model_head("vice_prototypes")
class VicePrototypes(nn.Module):
    """Hands the dense embedding on, together with the prototypes it is to be compared with.

    Pooling needs the region maps, which only the loss is given; so the scores are computed there.

    Args:
        model_config: ``config.MODEL``.
        dim: Width D of the embedding.
        num_prototypes: K.
    """

    def __init__(self, model_config: Any, dim: int, num_prototypes: int) -> None:
        super().__init__()
        self.prototypes = Prototypes(dim, num_prototypes)

    def forward(self, embeddings: Tensor) -> list[Tensor]:
        """(B, D, h, w) to [(B, D, h, w), (K, D)]."""
        return [embeddings, self.prototypes.weight]
