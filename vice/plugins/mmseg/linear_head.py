"""The linear probe: one 1x1 convolution on the embedding."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor

from vice.errors import UserError


@MODELS.register_module()
class LinearHead(BaseDecodeHead):
    """A linear classifier for each pixel, without non-linearity, dropout or normalisation.

    The logits are upsampled bilinearly (align_corners=False) to the input. Both steps are linear,
    so this equals classifying the upsampled embedding. With ``bottleneck`` there is a 1x1
    convolution to F channels and a batch normalisation before it, still without activation.
    Source: ViCE (BMVC) section 4.1 and the "#" rows of its table 8.

    Args:
        in_channels: Width D of the embedding.
        num_classes: Number of classes C.
        bottleneck: Width F, or None for the plain probe.
        norm_cfg: Normalisation of the bottleneck.
        **kwargs: What `BaseDecodeHead` takes.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        bottleneck: int | None = None,
        norm_cfg: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("loss_decode", {"type": "CrossEntropyLoss", "avg_non_ignore": True})
        super().__init__(
            in_channels,
            bottleneck or in_channels,
            num_classes=num_classes,
            out_channels=num_classes,
            dropout_ratio=0,
            align_corners=False,
            **kwargs,
        )
        self.bottleneck = None
        if bottleneck:
            norm_cfg = norm_cfg or {"type": "SyncBN", "requires_grad": True}
            self.bottleneck = ConvModule(
                in_channels, bottleneck, 1, norm_cfg=norm_cfg, act_cfg=None
            )

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Classifies each pixel of the embedding.

        Args:
            inputs: The backbone's output; its entry ``in_index`` is (B, D, h, w).

        Returns:
            Logits (B, C, h, w).

        Raises:
            UserError: The embedding is not ``in_channels`` wide.
        """
        embedding = self._transform_inputs(inputs)
        if embedding.shape[1] != self.in_channels:
            raise UserError(
                f"the embedding has {embedding.shape[1]} channels but the head expects "
                f"{self.in_channels}: set model.decode_head.in_channels={embedding.shape[1]}"
            )
        if self.bottleneck is not None:
            embedding = self.bottleneck(embedding)
        return self.cls_seg(embedding)
