"""Scores of a segmentation, all from one table of counts: clusters by classes.

The table is the only state, so it can be added up over batches and over processes, and every
matching and every score is a function of it. A linear probe is the case of one cluster a class,
with `CountTable.identity` as its mapping.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as AbstractMapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vice.errors import UserError
from vice.labels import IGNORE
from vice.parts import package

IntArray: TypeAlias = "Tensor | np.ndarray"
Mapping: TypeAlias = "Tensor | np.ndarray | Sequence[int]"


class CountTable:
    """How often each cluster met each class.

    Attributes:
        counts: int64 tensor (K, C) on the CPU; ``counts[k, c]`` pixels of true class ``c`` fell
            into cluster ``k``.

    Args:
        num_clusters: Number of clusters K.
        num_classes: Number of classes C, at most 255 (255 means "ignore" in a label map).

    Example:
        >>> import numpy as np
        >>> from vice.scoring import CountTable
        >>> table = CountTable(num_clusters=3, num_classes=2)
        >>> table.update(np.array([0, 0, 1, 1, 2]), np.array([1, 1, 0, 1, 255]))
        >>> table.counts.tolist()
        [[0, 2], [1, 1], [0, 0]]
        >>> mapping = table.hungarian()
        >>> mapping.tolist(), table.accuracy(mapping)
        ([1, 0, 1], 0.75)
        >>> table.iou_per_class(mapping).tolist(), round(table.miou(mapping), 4)
        ([0.5, 0.6666666666666666], 0.5833)
    """

    def __init__(self, num_clusters: int, num_classes: int) -> None:
        if num_clusters < 1:
            raise UserError(f"num_clusters must be at least 1, not {num_clusters}")
        if not 1 <= num_classes <= IGNORE:
            raise UserError(f"num_classes must lie in 1..{IGNORE}, not {num_classes}")
        self.counts = torch.zeros(num_clusters, num_classes, dtype=torch.int64)

    @property
    def num_clusters(self) -> int:
        """Number of clusters K."""
        return self.counts.shape[0]

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return self.counts.shape[1]

    def update(self, pred: IntArray, label: IntArray) -> None:
        """Counts the pixels of a prediction.

        Args:
            pred: Cluster of each pixel, any integer dtype and shape, in 0..K-1 wherever the label
                is not ignored.
            label: True class of each pixel, same shape, in 0..C-1, or 255 for "ignore".

        Raises:
            UserError: Different shapes, a dtype that is not integer, or a value out of range.
        """
        pred, label = _integers(pred, "pred"), _integers(label, "label")
        if pred.shape != label.shape:
            raise UserError(
                f"pred has shape {tuple(pred.shape)} but label has {tuple(label.shape)}; "
                "resize one of them before counting"
            )
        label = label.to(pred.device)
        keep = label != IGNORE
        pred, label = pred[keep], label[keep]
        _check_range(pred, self.num_clusters, "pred")
        _check_range(label, self.num_classes, f"label ({IGNORE} means ignore)")
        cell = pred * self.num_classes + label
        counts = torch.bincount(cell, minlength=self.counts.numel())
        self.counts += counts.view_as(self.counts).cpu()

    def merge(self, other: CountTable) -> None:
        """Adds the counts of another table of the same shape, for example of another rank.

        Raises:
            UserError: The shapes differ.
        """
        if other.counts.shape != self.counts.shape:
            raise UserError(
                f"cannot merge a table of {tuple(other.counts.shape)} clusters by classes into "
                f"one of {tuple(self.counts.shape)}"
            )
        self.counts += other.counts

    def identity(self) -> Tensor:
        """The mapping of a classifier: cluster k is class k.

        Returns:
            int64 (K,).

        Raises:
            UserError: There are not as many clusters as classes.
        """
        if self.num_clusters != self.num_classes:
            raise UserError(
                f"{self.num_clusters} clusters are not {self.num_classes} classes: "
                "use greedy() or hungarian()"
            )
        return torch.arange(self.num_classes)

    def greedy(self) -> Tensor:
        """Gives each cluster the class that most of its pixels have ("C K*" of the papers).

        Several clusters may share a class. Ties go to the lower class index. A cluster without
        any counted pixel gets the class that is most frequent in the whole table.

        Returns:
            int64 (K,), the class of each cluster.
        """
        mapping = self.counts.argmax(1)
        mapping[self.counts.sum(1) == 0] = self.counts.sum(0).argmax()
        return mapping

    def hungarian(self) -> Tensor:
        """Matches clusters and classes so that the most pixels are right.

        K = C: the best one-to-one assignment. K < C: each cluster gets a class of its own, and
        C - K classes get none. K > C: C clusters are matched one-to-one, as well as that can be
        done on the counts; the other K - C follow the `greedy` rule.

        Returns:
            int64 (K,), the class of each cluster.
        """
        linear_sum_assignment = package("scipy.optimize").linear_sum_assignment

        mapping = self.greedy()
        clusters, classes = linear_sum_assignment(self.counts.numpy(), maximize=True)
        mapping[torch.from_numpy(clusters)] = torch.from_numpy(classes)
        return mapping

    def pair_ious(self) -> Tensor:
        """Intersection over union of each cluster, as it is, with each class.

        Returns:
            float64 (K, C) in [0, 1]; 0 for a cluster and a class that are both empty.
        """
        counts = self.counts.double()
        union = counts.sum(1, keepdim=True) + counts.sum(0) - counts
        return counts / union.clamp(min=1)

    def argmax_iou(self) -> Tensor:
        """Gives each cluster the class it has the greatest IoU with.

        Several clusters may share a class. Ties go to the lower class index, and a cluster without
        any counted pixel gets class 0 by that rule.

        Source: MaskContrast (ICCV 2021), overclustering.

        Returns:
            int64 (K,), the class of each cluster.
        """
        return self.pair_ious().argmax(1)

    def hungarian_iou(self) -> Tensor:
        """Matches clusters and classes so that the sum of their IoUs is greatest.

        As `hungarian`, but on `pair_ious`: a small class weighs as much as a large one. Where
        K > C, the clusters that stay without a partner follow the `argmax_iou` rule.

        Source: MaskContrast (ICCV 2021); dense retrieval (open-hummingbird-eval).

        Returns:
            int64 (K,), the class of each cluster.
        """
        linear_sum_assignment = package("scipy.optimize").linear_sum_assignment

        mapping = self.argmax_iou()
        clusters, classes = linear_sum_assignment(self.pair_ious().numpy(), maximize=True)
        mapping[torch.from_numpy(clusters)] = torch.from_numpy(classes)
        return mapping

    def confusion(self, mapping: Mapping) -> Tensor:
        """Confusion matrix under a mapping.

        Args:
            mapping: Class of each cluster, (K,).

        Returns:
            int64 (C, C), rows are true classes and columns predicted ones, as in scikit-learn.

        Raises:
            UserError: The mapping has not K entries in 0..C-1.
        """
        classes = torch.as_tensor(mapping, dtype=torch.int64).cpu()
        if classes.shape != (self.num_clusters,):
            raise UserError(
                f"the mapping has shape {tuple(classes.shape)}, not ({self.num_clusters},): "
                "give one class for each cluster"
            )
        _check_range(classes, self.num_classes, "mapping")
        matrix = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)
        return matrix.index_add_(0, classes, self.counts).T.contiguous()

    def restricted(self, mapping: Mapping, classes: Sequence[int]) -> CountTable:
        """The part of the table that lies among some of the classes, both labels and predictions.

        The mapping stays that of the whole table: clusters are matched once, on all classes, and
        then rows (clusters of other classes) and columns (pixels of other classes) are left out.
        Pixels of these classes that were given another one are thus counted nowhere; see
        `share_within`.

        Args:
            mapping: Class of each cluster, (K,), of all classes.
            classes: Indices of P classes, none twice.

        Returns:
            A table of P predicted classes by P classes, in the order of ``classes``; its mapping
            is `identity`.

        Raises:
            UserError: The mapping does not fit, or no classes, one twice or out of range.

        Example:
            >>> import torch
            >>> from vice.scoring import CountTable
            >>> table = CountTable(num_clusters=3, num_classes=3)
            >>> table.counts = torch.tensor([[6, 1, 0], [2, 5, 1], [0, 3, 9]])
            >>> part = table.restricted([0, 1, 2], [1, 2])
            >>> part.counts.tolist(), part.accuracy(part.identity())
            ([[5, 1], [3, 9]], 0.7777777777777778)
        """
        chosen = torch.as_tensor(classes, dtype=torch.int64)
        _check_range(chosen, self.num_classes, "classes")
        if len(set(chosen.tolist())) != len(chosen) or not len(chosen):
            raise UserError(f"classes {chosen.tolist()}: give one or more different ones")
        part = CountTable(len(chosen), len(chosen))
        part.counts = self.confusion(mapping)[chosen][:, chosen].T.contiguous()
        return part

    def share_within(self, mapping: Mapping, classes: Sequence[int]) -> float:
        """Share of the pixels of some classes that were given one of them.

        Args:
            mapping: Class of each cluster, (K,).
            classes: As in `restricted`.

        Returns:
            A value in [0, 1]; NaN where they have no pixel.
        """
        within = self.restricted(mapping, classes).counts.sum().double()
        return float(within / self.counts[:, list(classes)].sum())

    def iou_per_class(self, mapping: Mapping) -> Tensor:
        """Intersection over union of each class.

        Args:
            mapping: Class of each cluster, (K,).

        Returns:
            float64 (C,) in [0, 1]; NaN for a class that is neither in the labels nor predicted.
        """
        matrix = self.confusion(mapping).double()
        hits = matrix.diagonal()
        return hits / (matrix.sum(0) + matrix.sum(1) - hits)

    def miou(self, mapping: Mapping) -> float:
        """Mean IoU over the classes that are in the labels or predicted.

        A class that is predicted but absent from the labels counts with IoU 0.

        Args:
            mapping: Class of each cluster, (K,).

        Returns:
            A value in [0, 1]; NaN for an empty table.
        """
        return float(self.iou_per_class(mapping).nanmean())

    def accuracy(self, mapping: Mapping) -> float:
        """Share of the pixels that have the right class.

        Args:
            mapping: Class of each cluster, (K,).

        Returns:
            A value in [0, 1]; NaN for an empty table.
        """
        matrix = self.confusion(mapping)
        return float(matrix.trace().double() / matrix.sum())


def mean_over(scores: Iterable[AbstractMapping[str, Any]]) -> str:
    """Says over how many classes each mIoU is a mean: those in the labels or predicted.

    Args:
        scores: Scores as in a ``results.json``: with ``iou_per_class``, a mapping or a list, None
            or NaN for a class that is left out; or with ``classes_in_mean`` and the number of
            ``classes``. Others are passed over.

    Returns:
        For example ``mean over 19 of 27 classes``, or ``mean over 17 to 19 of 27 classes`` where
        they differ; empty where no scores say.
    """
    counts, classes = [], 0
    for score in scores:
        iou = score.get("iou_per_class")
        if iou is None and score.get("classes"):
            counts.append(int(score["classes_in_mean"]))
            classes = max(classes, int(score["classes"]))
        elif iou is not None:
            values = list(iou.values()) if isinstance(iou, AbstractMapping) else list(iou)
            counts.append(sum(v is not None and not math.isnan(v) for v in values))
            classes = max(classes, len(values))
    if not counts:
        return ""
    low, high = min(counts), max(counts)
    return f"mean over {low if low == high else f'{low} to {high}'} of {classes} classes"


def _integers(values: IntArray, name: str) -> Tensor:
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()  # torch warns of a read-only array, as image files give them
    tensor = torch.as_tensor(values)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise UserError(f"{name} must hold integers, not {tensor.dtype}")
    return tensor.to(torch.int64)


def _check_range(values: Tensor, limit: int, name: str) -> None:
    if values.numel() == 0:
        return
    low, high = (int(extreme) for extreme in torch.aminmax(values))
    if low < 0 or high >= limit:
        value = low if low < 0 else high
        raise UserError(f"{name}: value {value} is out of range 0..{limit - 1}")
