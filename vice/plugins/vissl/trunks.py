"""VISSL trunks ``vice_resnet_fpn``, ``vice_resnet_deeplabv3plus`` and ``vice_timm``."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from vissl.models.trunks import register_model_trunk

from vice.models import build_embedder
from vice.models.embedder import AUTO
from vice.models.execution import Execution


class _EmbedderTrunk(nn.Module):
    """The dense embedder as a trunk with a single feature.

    Args:
        model_config: ``config.MODEL``; ``TRUNK.VICE`` holds the arguments of
            `vice.models.build_embedder` but for the decoder, ``TRUNK.EXECUTION`` those of
            `vice.models.execution.Execution`.
        model_name: The registered name.
    """

    decoder = ""

    def __init__(self, model_config: Any, model_name: str) -> None:
        super().__init__()
        options = dict(model_config.TRUNK.VICE)
        self.execution = Execution(**model_config.TRUNK.EXECUTION)
        self.embedder = build_embedder(decoder=self.decoder, **options)
        self.execution.prepare(self.embedder)

    def forward(self, images: Tensor, out_feat_keys: list[str] | None = None) -> list[Tensor]:
        """(B, 3, H, W) to [(B, D, H/4, W/4)]."""
        return [self.execution.run(self.embedder, images)]


@register_model_trunk("vice_resnet_fpn")
class ResNetFPNTrunk(_EmbedderTrunk):
    """ResNet with the feature pyramid decoder (low resolution)."""

    decoder = "fpn"


@register_model_trunk("vice_resnet_deeplabv3plus")
class ResNetDeepLabV3PlusTrunk(_EmbedderTrunk):
    """ResNet with the DeepLabV3+ decoder (high resolution)."""

    decoder = "deeplabv3plus"


@register_model_trunk("vice_timm")
class TimmTrunk(_EmbedderTrunk):
    """A network of timm with the decoder that goes with it: FPN, or a light one for a ViT."""

    decoder = AUTO


#: Name of a trunk to the decoder that it stands for.
DECODERS = {
    "vice_resnet_fpn": ResNetFPNTrunk.decoder,
    "vice_resnet_deeplabv3plus": ResNetDeepLabV3PlusTrunk.decoder,
    "vice_timm": TimmTrunk.decoder,
}
