"""VISSL trunk ``vice_embedder``, also under the names that its decoders had."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from vissl.models.trunks import MODEL_TRUNKS_REGISTRY, register_model_trunk

from vice.models import build_embedder
from vice.models.embedder_options import AUTO
from vice.models.execution import Execution

TRUNK = "vice_embedder"
#: Names of version 0.1 to the decoders that they stand for.
DECODERS = {
    "vice_resnet_fpn": "fpn",
    "vice_resnet_deeplabv3plus": "deeplabv3plus",
    "vice_timm": AUTO,
}


@register_model_trunk(TRUNK)
class EmbedderTrunk(nn.Module):
    """The dense embedder as a trunk with a single feature.

    Args:
        model_config: ``config.MODEL``; ``TRUNK.VICE`` holds the arguments of
            `vice.models.build_embedder`, ``TRUNK.OUTPUTS`` the further outputs, if the method has
            some, ``TRUNK.EXECUTION`` those of `vice.models.execution.Execution`.
        model_name: The registered name.
    """

    def __init__(self, model_config: Any, model_name: str) -> None:
        super().__init__()
        options = dict(model_config.TRUNK.VICE)
        if model_name in DECODERS:
            options["decoder"] = DECODERS[model_name]
        # Undecided: under engines and tools of VISSL's own, which know of no probe.
        self.execution = Execution(**model_config.TRUNK.EXECUTION).choices()[0]
        outputs = model_config.TRUNK.get("OUTPUTS", None)
        self.embedder = build_embedder(**options, outputs=dict(outputs) if outputs else None)
        self.execution.prepare(self.embedder)

    def forward(self, images: Tensor, out_feat_keys: list[str] | None = None) -> list[Tensor]:
        """(B, 3, H, W) to [(B, D, H/4, W/4)], further outputs behind it along the channels."""
        return [self.execution.run(self.embedder, images, outputs=True)]


# Earlier names: a run's own file may be given to VISSL's tools long after.
MODEL_TRUNKS_REGISTRY.update(dict.fromkeys(DECODERS, EmbedderTrunk))
