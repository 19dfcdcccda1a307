"""The linear probe: one 1x1 convolution on the embedding."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.dist import all_reduce, get_world_size
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor

from vice.errors import UserError
from vice.models.embeddings import FiniteWatch


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
        upsample: ``"scores"``, or ``"classes"`` to decide at the stride of the embedding and
            repeat the classes (see `vice.evaluation.protocols.Protocol`).
        **kwargs: What `BaseDecodeHead` takes.

    Attributes:
        seen: bool (256,), whether a label has occurred in training; 255 is "ignore".
        watch: Refuses scores that are not finite.
    """

    seen: Tensor

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        bottleneck: int | None = None,
        norm_cfg: dict[str, Any] | None = None,
        upsample: str = "scores",
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
        self.upsample = upsample
        self.watch = FiniteWatch()
        self.register_buffer("seen", torch.zeros(256, dtype=torch.bool), persistent=False)
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
            UserError: The embedding is not ``in_channels`` wide, or the scores are not finite.
        """
        embedding = self._transform_inputs(inputs)
        if embedding.shape[1] != self.in_channels:
            raise UserError(
                f"the embedding has {embedding.shape[1]} channels but the head expects "
                f"{self.in_channels}: set model.decode_head.in_channels={embedding.shape[1]}"
            )
        if self.bottleneck is not None:
            embedding = self.bottleneck(embedding)
        scores = self.cls_seg(embedding)
        self.watch.see(scores, _DIVERGED)
        return scores

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Mean over the labelled pixels of the step on all ranks.

        The average of the ranks' gradients, which DistributedDataParallel takes, is then that of
        one process, however the labelled pixels are spread.
        """
        losses = super().loss_by_feat(seg_logits, batch_data_samples)
        labels = self._stack_batch_gt(batch_data_samples)
        self.seen.index_fill_(0, labels.flatten(), True)
        if get_world_size() > 1:
            count = (labels != self.ignore_index).sum().float()
            mean = count.clone()
            all_reduce(mean, "mean")
            for name in losses:
                if "loss" in name:
                    losses[name] = losses[name] * count / mean.clamp(min=1e-6)
        return losses

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits at the size of the input; with ``upsample="classes"`` one-hot votes instead."""
        if self.upsample != "classes":
            return super().predict_by_feat(seg_logits, batch_img_metas)
        meta = batch_img_metas[0]
        return repeat_classes(seg_logits, tuple(meta.get("pad_shape", meta["img_shape"])[:2]))


_DIVERGED = (
    "the scores of its classes are not finite (NaN or infinity): the probe has diverged, lower "
    "linear_lr (or the embedding has too large numbers)"
)


def repeat_classes(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Best class of each cell, repeated to the nearest pixels of a larger map.

    Args:
        scores: (B, C, h, w).
        size: (H, W).

    Returns:
        One-hot (B, C, H, W), dtype of the scores.
    """
    votes = F.one_hot(scores.argmax(1), scores.shape[1]).permute(0, 3, 1, 2).to(scores)
    return F.interpolate(votes, size, mode="nearest-exact")
