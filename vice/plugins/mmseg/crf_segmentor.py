"""Predictions that a dense conditional random field has refined."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn

from vice.evaluation.dense_crf import refine


def refined_classes(
    log_probabilities: Tensor, image: Tensor, preprocessor: nn.Module, size: tuple[int, int]
) -> Tensor:
    """Labels of one image, decided at the size of the network's input.

    Args:
        log_probabilities: (K, H, W), at that size.
        image: What went into the network, (3, H, W).
        preprocessor: Has normalised it with its ``mean`` and ``std``.
        size: Original (h, w), to which labels are repeated.

    Returns:
        int64 (h, w), on the CPU.
    """
    pixels = (image * preprocessor.std + preprocessor.mean).round().clamp(0, 255)
    pixels = pixels.permute(1, 2, 0).to(torch.uint8).cpu()
    labels = refine(log_probabilities.float().cpu().numpy(), pixels.numpy())
    large = F.interpolate(torch.from_numpy(labels)[None, None].float(), size, mode="nearest")
    return large[0, 0].long()


@MODELS.register_module()
class CrfSegmentor(EncoderDecoder):
    """Refines the softmax of a head's scores, see `vice.evaluation.dense_crf`."""

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Classes of each pixel.

        Args:
            inputs: (B, 3, H, W) normalised images.
            data_samples: Their `SegDataSample`s; the images were resized and not padded.

        Returns:
            The samples with ``pred_sem_seg``, int64 (1, h, w) at the original size.
        """
        samples = data_samples or []
        scores = self.inference(inputs, [sample.metainfo for sample in samples])
        for each, image, sample in zip(scores.log_softmax(1), inputs, samples, strict=True):
            size = tuple(sample.metainfo["ori_shape"][:2])
            classes = refined_classes(each, image, self.data_preprocessor, size)
            sample.pred_sem_seg = PixelData(data=classes[None].to(inputs.device))
        return samples
