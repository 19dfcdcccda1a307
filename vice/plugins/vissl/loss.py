"""VISSL loss ``vice_dense_swav``."""

from __future__ import annotations

from typing import Any

from classy_vision.losses import ClassyLoss, register_loss
from torch import Tensor

from vice.losses import BatchRegions, DenseSwAVLoss


@register_loss("vice_dense_swav")
class ViceDenseSwAV(ClassyLoss):
    """The dense SwAV loss on the output of ``vice_prototypes`` and a batch's region maps.

    Args:
        **options: Arguments of `vice.losses.DenseSwAVLoss`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.criterion = DenseSwAVLoss(**options)
        self._prepared: tuple[Tensor, BatchRegions] | None = None

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ViceDenseSwAV:
        """Built from ``config.LOSS.vice_dense_swav``."""
        return cls(**{key: value for key, value in config.items() if key != "name"})

    def prepare(self, target: Tensor) -> None:
        """Finds the regions of the batch that comes next, before the model is busy with it."""
        self._prepared = (target, BatchRegions.of(target, self.criterion.num_views))

    def forward(self, output: list[Tensor], target: Tensor) -> Tensor:
        """Loss of ``[embeddings, prototypes]`` given region maps (M*N, h, w)."""
        embeddings, prototypes = output
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared[0] is target:
            return self.criterion(embeddings, prototypes, prepared[1])
        return self.criterion(embeddings, prototypes, target)
