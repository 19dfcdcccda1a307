"""VISSL loss ``vice_dense_swav``."""

from __future__ import annotations

from typing import Any

from classy_vision.losses import ClassyLoss, register_loss
from torch import Tensor

from vice.losses import DenseSwAVLoss


@register_loss("vice_dense_swav")
class ViceDenseSwAV(ClassyLoss):
    """The dense SwAV loss on the output of ``vice_prototypes`` and a batch's region maps.

    Args:
        **options: Arguments of `vice.losses.DenseSwAVLoss`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.criterion = DenseSwAVLoss(**options)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ViceDenseSwAV:
        """Built from ``config.LOSS.vice_dense_swav``."""
        return cls(**{key: value for key, value in config.items() if key != "name"})

    def forward(self, output: list[Tensor], target: Tensor) -> Tensor:
        """Loss of ``[embeddings, prototypes]`` given region maps (M*N, h, w)."""
        embeddings, prototypes = output
        return self.criterion(embeddings, prototypes, target)
