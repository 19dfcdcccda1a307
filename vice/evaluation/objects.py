"""Clusters of objects: one vector an image, the mean embedding of its foreground.

Source: MaskContrast (Van Gansbeke et al., ICCV 2021), k-means on PASCAL VOC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vice.clustering import count_distinct
from vice.errors import UserError
from vice.evaluation.image_counts import ImageTables, image_cells
from vice.labels import IGNORE
from vice.parts import package
from vice.scoring import CountTable

#: Channels that are upsampled at once.
_CHANNELS = 64


def object_vector(embedding: Tensor, weights: Tensor) -> Tensor:
    """The direction of the weighted sum of an upsampled embedding.

    Args:
        embedding: (D, h, w), not normalised; upsampled bilinearly (align_corners=False).
        weights: float (H, W), 0 outside the foreground.

    Returns:
        float32 (D,) of unit length, zeros where nothing is foreground.
    """
    size = (int(weights.shape[0]), int(weights.shape[1]))
    weights = weights.to(embedding.device, torch.float32)
    sums = [
        (F.interpolate(part[None].float(), size, mode="bilinear", align_corners=False) * weights)
        .double()
        .sum((0, 2, 3))
        for part in embedding.split(_CHANNELS)
    ]
    return F.normalize(torch.cat(sums), dim=0, eps=1e-12).float()


def foreground_of(logits: Tensor, size: tuple[int, int], threshold: str) -> tuple[Tensor, Tensor]:
    """Foreground of an image by a model's own output.

    Args:
        logits: (1, h, w), raw; upsampled bilinearly (align_corners=False).
        size: (H, W) of the network's input.
        threshold: ``"logit"``: above 0.5 as they are (a probability of 0.622, as published), or
            ``"probability"``: those of a probability above one half.

    Returns:
        The mask, bool (H, W), and the weights of its pixels: the logits in it, 0 outside.
    """
    upsampled = F.interpolate(logits[None].float(), size, mode="bilinear", align_corners=False)[
        0, 0
    ]
    mask = upsampled > (0.5 if threshold == "logit" else 0.0)
    return mask, upsampled * mask


def count_foreground(mask: Tensor, label: Tensor, num_classes: int) -> np.ndarray:
    """How many pixels of each class lie outside and inside the foreground.

    Args:
        mask: bool (h, w), brought to the size of the label map by the nearest pixel.
        label: Integer (H, W), 255 = ignored.
        num_classes: Number of classes C.

    Returns:
        int64 (2, C): background, foreground.
    """
    size = (int(label.shape[0]), int(label.shape[1]))
    large = F.interpolate(mask[None, None].float().cpu(), size, mode="nearest")[0, 0].long()
    label = label.cpu().long()
    counted = label != IGNORE
    cell = large[counted] * num_classes + label[counted]
    return torch.bincount(cell, minlength=2 * num_classes).view(2, num_classes).numpy()


@dataclass
class ObjectVectors:
    """Objects of a split, image by image.

    Attributes:
        vectors: float32 (D,) of each image.
        counts: int64 (2, C) of each image, see `count_foreground`; empty without labels.
    """

    vectors: list[Tensor] = field(default_factory=list)
    counts: list[np.ndarray] = field(default_factory=list)

    @property
    def without(self) -> int:
        """Images without foreground."""
        return sum(not bool(vector.any()) for vector in self.vectors)

    @property
    def distinct(self) -> int:
        """How many vectors differ, see `vice.clustering.count_distinct`."""
        return count_distinct(torch.stack(self.vectors))

    def tables(self, clusters: Sequence[int] | np.ndarray, num_clusters: int) -> ImageTables:
        """Counts of a clustering: cluster 0 is the background, an object's is 1 + its own.

        Args:
            clusters: Of each image, in 0..num_clusters - 2.
            num_clusters: Number of clusters K, the background being one.
        """
        images, classes = [], self.counts[0].shape[1]
        for cluster, counts in zip(clusters, self.counts, strict=True):
            table = CountTable(num_clusters, classes)
            table.counts[0] = torch.from_numpy(counts[0])
            table.counts[1 + int(cluster)] = torch.from_numpy(counts[1])
            images.append(image_cells(table))
        return ImageTables.of(images, num_clusters, classes)


class ObjectClusters:
    """Clusters of objects: whitened principal components, then mini-batch k-means.

    Args:
        vectors: float32 (N, D), the objects that are fitted on.
        clusters: Number of clusters of objects, K - 1.
        components: Principal components.
        batch: Objects of a step of mini-batch k-means.
        seed: Of mini-batch k-means.

    Raises:
        UserError: scikit-learn is missing, or fewer objects than clusters or components.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        clusters: int,
        *,
        components: int = 32,
        batch: int = 1000,
        seed: int = 1234,
    ) -> None:
        cluster, decomposition = package("sklearn.cluster"), package("sklearn.decomposition")
        number, dim = vectors.shape
        if number < max(clusters, components) or dim < components:
            raise UserError(
                f"{number} objects of {dim} dimensions cannot make {clusters} clusters of "
                f"{components} principal components: give more images, or lower objects_components"
            )
        # Solver: the exact one, where the default would take a randomised one for wide vectors.
        self._pca = decomposition.PCA(components, whiten=True, svd_solver="full")
        points = self._pca.fit_transform(vectors.astype(np.float64))
        # Restarts: three, scikit-learn's default of that time (before its version 1.4).
        self._kmeans = cluster.MiniBatchKMeans(
            clusters, batch_size=batch, random_state=seed, n_init=3
        )
        self._kmeans.fit(points)

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """Cluster of each object.

        Args:
            vectors: float32 (N, D).

        Returns:
            Integer (N,), 0..clusters - 1.
        """
        return np.asarray(self._kmeans.predict(self._pca.transform(vectors.astype(np.float64))))
