"""Clusters as a decode head: frozen concepts that score each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from vice.errors import UserError
from vice.models.centroids import Centroids
from vice.models.checkpoint import load_checkpoint
from vice.models.concepts import Concepts
from vice.models.embeddings import FiniteWatch
from vice.models.load import names_a_run
from vice.nearest import near_path
from vice.runtime.files import read_json


@MODELS.register_module()
class ClusterHead(BaseDecodeHead):
    """Scores each pixel of an embedding against k-means centroids, or a checkpoint's own classes.

    In a plain ``EncoderDecoder`` it predicts classes when it has a mapping, else cluster ids. In
    a `ClusterSegmentor` several of these heads share one pass, in bounded memory.

    Args:
        centroids: File written by `vice.models.centroids.Centroids.save`.
        own: Instead, a checkpoint whose own concepts are taken, see `own_concepts`.
        mapping: Class of each cluster: K integers, or a JSON file with them. None: cluster ids.
        num_classes: Number of classes C when there is a mapping; default its maximum plus one.
        in_index: Which of the backbone's outputs to use.
    """

    def __init__(
        self,
        centroids: str | None = None,
        *,
        own: str | None = None,
        mapping: str | Sequence[int] | None = None,
        num_classes: int | None = None,
        in_index: int = -1,
    ) -> None:
        if (centroids is None) == (own is None):
            raise ValueError("ClusterHead needs either centroids or own")
        concepts = own_concepts(own) if own else Centroids.load(str(centroids)).concepts()
        clusters, dim = concepts.vectors.shape
        super().__init__(
            dim,
            dim,
            num_classes=clusters,
            out_channels=clusters,
            dropout_ratio=0,
            in_index=in_index,
            # Loss: never used; the base class wants one, and warns about its own default.
            loss_decode={"type": "CrossEntropyLoss", "avg_non_ignore": True},
            init_cfg=None,
        )
        # Buffers move with the head; the layer of the base class is not needed.
        self.register_buffer("vectors", concepts.vectors, persistent=False)
        self.register_buffer("bias", concepts.bias, persistent=False)
        self.conv_seg = nn.Identity()
        self.space, self.name = concepts.space, concepts.name
        self.num_clusters = clusters
        self.watch = FiniteWatch()
        self.mapping: Tensor | None
        self.register_buffer("mapping", _read_mapping(mapping, clusters), persistent=False)
        if self.mapping is not None:
            self.num_classes = num_classes or int(self.mapping.max()) + 1

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Closeness to each centroid.

        Args:
            inputs: The backbone's output; its entry ``in_index`` is (B, D, h, w).

        Returns:
            (B, K, h, w); the greatest is the nearest centroid.

        Raises:
            UserError: The centroids belong to another model, or the numbers are too large.
        """
        scores = self.closeness(inputs)
        self.watch.see(scores, "its closeness to the centroids is not finite: too large numbers")
        return scores

    def closeness(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """What `forward` gives, whether it is finite or not."""
        embedding = self._transform_inputs(inputs)
        return Concepts(self.vectors, self.bias, self.space, self.name).scores(embedding)

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Scores at the size of the input: of the classes with a mapping, else of the clusters.

        A class scores as its best cluster does, so that the argmax is the class of the nearest
        centroid.
        """
        scores = super().predict_by_feat(seg_logits, batch_img_metas)
        if self.mapping is None:
            return scores
        batch, _, height, width = scores.shape
        never = torch.finfo(scores.dtype).min / 4
        classes = scores.new_full((batch, self.num_classes, height, width), never)
        for index in self.mapping.unique().tolist():
            classes[:, index] = scores[:, self.mapping == index].amax(1)
        return classes

    def to_classes(self, clusters: Tensor) -> Tensor:
        """Replaces cluster ids by classes; without a mapping they stay."""
        return clusters if self.mapping is None else self.mapping[clusters]

    def loss(self, *args: Any, **kwargs: Any) -> dict:
        """Refuses: centroids are fitted by k-means.

        Raises:
            UserError: Always.
        """
        raise UserError("clusters are fitted with tools/eval_cluster.py, not trained")


def own_concepts(spec: str) -> Concepts:
    """What a checkpoint was trained to tell apart: its prototypes, or the classes of its head.

    Args:
        spec: As in `vice.models.load.load_extractor`.

    Raises:
        UserError: It names no checkpoint of ViCE, or one without concepts.
    """
    concepts = load_checkpoint(spec).concepts if names_a_run(spec) else None
    if concepts is None:
        raise UserError(
            f"{spec} has no classes of its own: score a training that keeps some (IIC, PiCIE, "
            "ViCE), or cluster its embeddings with clusters=kmeans"
        )
    return concepts


def _read_mapping(mapping: str | Sequence[int] | None, clusters: int) -> Tensor | None:
    if mapping is None:
        return None
    if isinstance(mapping, str):
        if not Path(mapping).is_file():
            raise UserError(f"{mapping}: no such mapping file{near_path(mapping)}")
        mapping = read_json(Path(mapping), "write it again, as a list of classes", list)
    classes = torch.as_tensor(list(mapping), dtype=torch.int64)
    if len(classes) != clusters:
        raise UserError(f"the mapping has {len(classes)} classes for {clusters} clusters")
    return classes
