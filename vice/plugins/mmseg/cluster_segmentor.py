"""Several sets of clusters on one embedding, in one pass over a data set."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from vice.models.cell_counts import count_nearest
from vice.models.concepts import argmax_upsampled
from vice.plugins.mmseg.crf_segmentor import refined_classes


@MODELS.register_module()
class ClusterSegmentor(EncoderDecoder):
    """Embeds once and assigns each pixel to a cluster of each head.

    ``decode_head`` is a list of `ClusterHead` configs. Predictions are ``pred_clusters``, int64
    (heads, H, W) at the original size of the image, and ``pred_sem_seg``, int64 (1, H, W): the
    classes (without a mapping, the clusters) of the first head. As in ``EncoderDecoder``, scores
    are upsampled bilinearly to the network's input, then to the original size if that differs;
    they are never held for more than a band of rows when both sizes agree.

    Args:
        upsample: ``"scores"``, ``"probabilities"`` (their softmax), ``"input"`` to decide at the
            size of the input and repeat the clusters, or ``"classes"`` to do so at the stride of
            the embedding.
        crf: Whether a dense conditional random field refines the softmax of twice the cosine, at
            the size of the input.
        **kwargs: What `EncoderDecoder` takes.
    """

    def __init__(self, *, upsample: str = "scores", crf: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.upsample, self.crf = upsample, crf

    def _init_decode_head(self, decode_head: list[dict[str, Any]]) -> None:
        self.decode_head = nn.ModuleList([MODELS.build(config) for config in decode_head])
        first = self.decode_head[0]
        self.align_corners = first.align_corners
        self.num_classes = first.num_classes
        self.out_channels = first.out_channels

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Clusters of each pixel.

        Args:
            inputs: (B, 3, H, W) normalised images.
            data_samples: Their `SegDataSample`s, or None.

        Returns:
            The samples with ``pred_clusters`` and ``pred_sem_seg``.
        """
        size = (inputs.shape[2], inputs.shape[3])
        if data_samples is None:
            meta = {"ori_shape": size}
            data_samples = [SegDataSample(metainfo=meta) for _ in range(len(inputs))]
        features, metas = self.extract_feat(inputs), [sample.metainfo for sample in data_samples]
        if self.crf:
            maps = self._refine(features, inputs, metas)
        else:
            maps = self.assign(features, size, metas)
        for sample, clusters in zip(data_samples, maps, strict=True):
            sample.pred_clusters = PixelData(data=clusters)
            classes = self.decode_head[0].to_classes(clusters[0])
            sample.pred_sem_seg = PixelData(data=classes[None])
        return data_samples

    def assign(
        self, features: tuple[Tensor, ...], size: tuple[int, int], metas: list[dict[str, Any]]
    ) -> list[Tensor]:
        """Clusters of each pixel of images that are embedded already.

        Args:
            features: What the backbone gives for a batch.
            size: (H, W) of the network's input.
            metas: Say of each image how large it was.

        Returns:
            For each image int64 (heads, H, W) at its original size.
        """
        maps: list[list[Tensor]] = [[] for _ in metas]
        for head in self.decode_head:
            scores = head(features)
            for i, meta in enumerate(metas):
                maps[i].append(self._assign(scores[i : i + 1], size, meta))
        return [torch.stack(clusters) for clusters in maps]

    def count(
        self, features: tuple[Tensor, ...], size: tuple[int, int], meta: dict[str, Any], **of: Any
    ) -> list[Tensor] | None:
        """Counts what `assign` would give for one image, where that takes no map of its pixels.

        Args:
            features: What the backbone gives for the image.
            size: (H, W) of the network's input.
            meta: Says how large the image was.
            **of: ``labels`` and ``classes``, see `vice.models.cell_counts.count_nearest`.

        Returns:
            For each head int64 (K, C); None where the map is needed.
        """
        if self.crf or self.upsample != "scores" or not _is_at_input(size, meta):
            return None
        return count_nearest([head.closeness(features)[0] for head in self.decode_head], **of)

    def _refine(
        self, features: tuple[Tensor, ...], inputs: Tensor, metas: list[dict[str, Any]]
    ) -> list[Tensor]:
        """What `assign` gives, refined by the random field."""
        size = (inputs.shape[2], inputs.shape[3])
        maps: list[list[Tensor]] = [[] for _ in metas]
        for head in self.decode_head:
            head(features)  # It refuses numbers that are not finite.
            for i, meta in enumerate(metas):
                log = _log_probabilities(head, features[-1][i : i + 1], size)
                ids = refined_classes(log, inputs[i], self.data_preprocessor, _size(meta))
                maps[i].append(ids.to(inputs.device))
        return [torch.stack(clusters) for clusters in maps]

    def _assign(self, scores: Tensor, size: tuple[int, int], meta: dict[str, Any]) -> Tensor:
        if self.upsample == "classes":
            # Nearest-neighbor sampling leaves a one-channel map of cluster ids unchanged.
            ids = argmax_upsampled(scores, (scores.shape[2], scores.shape[3]))[:, None].float()
            ids = F.interpolate(ids, size, mode="nearest-exact")
            ids = F.interpolate(_unpad(ids, size, meta), _size(meta), mode="nearest-exact")
            return ids[0, 0].long()
        if self.upsample == "input":
            ids = argmax_upsampled(scores, size)[:, None].float()
            return F.interpolate(_unpad(ids, size, meta), _size(meta), mode="nearest")[0, 0].long()
        if self.upsample == "probabilities":
            scores = scores.softmax(1)
        return _place(scores, size, meta)


def _log_probabilities(head: nn.Module, embedding: Tensor, size: tuple[int, int]) -> Tensor:
    """Log-softmax of twice the cosine with unit centroids, (K, H, W), as STEGO has it."""
    large = F.interpolate(embedding, size, mode="bilinear", align_corners=False)
    return (2 * head((F.normalize(large, dim=1),))).log_softmax(1)[0]


def _place(scores: Tensor, size: tuple[int, int], meta: dict[str, Any]) -> Tensor:
    """Clusters of one image at its original size: (1, K, h, w) -> int64 (H, W)."""
    original = _size(meta)
    if _is_at_input(size, meta):
        return argmax_upsampled(scores, original)[0]
    scores = F.interpolate(scores, size, mode="bilinear", align_corners=False)
    return argmax_upsampled(_unpad(scores, size, meta), original)[0]


def _is_at_input(size: tuple[int, int], meta: dict[str, Any]) -> bool:
    """Whether an image is scored as the network sees it."""
    return size == _size(meta) and not any(_padding(meta)) and not meta.get("flip")


def _unpad(values: Tensor, size: tuple[int, int], meta: dict[str, Any]) -> Tensor:
    left, right, top, bottom = _padding(meta)
    values = values[:, :, top : size[0] - bottom, left : size[1] - right]
    if meta.get("flip"):
        values = values.flip(3 if meta.get("flip_direction") == "horizontal" else 2)
    return values


def _size(meta: dict[str, Any]) -> tuple[int, int]:
    height, width = meta["ori_shape"][:2]
    return int(height), int(width)


def _padding(meta: dict[str, Any]) -> tuple[int, ...]:
    return tuple(meta.get("img_padding_size", meta.get("padding_size", (0, 0, 0, 0))))
