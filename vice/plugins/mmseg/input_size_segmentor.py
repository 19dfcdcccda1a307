"""Predictions that are decided at the size of the network's input."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class InputSizeSegmentor(EncoderDecoder):
    """Compares scores at the size of the input, and repeats classes to the original size.

    ``EncoderDecoder`` resizes the scores instead, and compares them there.
    """

    def postprocess_result(self, seg_logits: Tensor, data_samples: list | None = None) -> list:
        """Classes of each pixel at the original size of its image.

        Args:
            seg_logits: (B, C, H, W) at the size of the input.
            data_samples: Their `SegDataSample`s; the images were resized and not padded.

        Returns:
            The samples with ``pred_sem_seg``, int64 (1, h, w).
        """
        if data_samples is None:
            samples: list[Any] = super().postprocess_result(seg_logits, None)
            return samples
        for scores, sample in zip(seg_logits, data_samples, strict=True):
            classes = scores.argmax(0)[None, None].float()
            size = tuple(sample.metainfo["ori_shape"][:2])
            large = F.interpolate(classes, size, mode="nearest")[0].long()
            sample.pred_sem_seg = PixelData(data=large)
        return data_samples
