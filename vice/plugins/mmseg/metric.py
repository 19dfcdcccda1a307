"""The count table as a metric of MMSegmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, collect_results, get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS
from torch import Tensor

from vice.errors import UserError
from vice.evaluation.image_counts import ImageCells, ImageTables, image_cells
from vice.plugins.mmseg.best_epoch import BestEpoch
from vice.plugins.mmseg.watching import Training
from vice.scoring import CountTable


@dataclass(frozen=True)
class ScoredImage:
    """One scored image.

    Attributes:
        name: Stem of its file.
        image: What went into the network, uint8 RGB (h, w, 3).
        label: uint8 (H, W), 255 = ignore.
        predictions: Classes or clusters of each set, int32 (H, W).
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    predictions: list[np.ndarray]


@METRICS.register_module()
class CountMetric(BaseMetric):
    """mIoU, pixel accuracy and IoU of each class, in percent, from one table of counts.

    Without ``num_clusters`` the prediction ``pred_sem_seg`` holds classes; reported are ``mIoU``,
    ``aAcc``, ``classes_in_mean`` (how many the mIoU is a mean over) and ``IoU/<class>``. With it,
    each entry of ``pred_clusters`` holds clusters;
    reported are ``k<K>/hungarian/mIoU`` and so on (matched on the very labels that are scored)
    and, for given mappings, ``k<K>/mIoU``.

    The tables are added up over the ranks, so memory does not grow with the data set. As in
    MMEngine's own metrics, images must be dealt to the ranks in turn (``DefaultSampler`` without
    shuffling); those that a sampler repeats to fill up are counted once.

    Attributes:
        tables: After `evaluate`: the summed table of each set of clusters (one for classes).
        image_tables: After `evaluate` with ``per_image``: on rank 0 the tables of single images of
            each set, in the order of the data set, whatever the number of ranks; else none.
        samples: The first images of the data set; after `evaluate` rank 0 has them in order, the
            other ranks none.
        training: What the run's training has seen, if there was one.
        best_epoch: Counts of its best epoch, where that was asked for.

    Args:
        num_clusters: Number of clusters of each set.
        mappings: Class of each cluster, for each set.
        max_samples: How many images to keep with their predictions, for pictures.
        per_image: Whether the table of each image is kept too: 8 bytes for each of its cells that
            holds a pixel.
        prefix: Put before each name.
    """

    def __init__(
        self,
        num_clusters: Sequence[int] | None = None,
        *,
        mappings: Sequence[Sequence[int]] | None = None,
        max_samples: int = 0,
        per_image: bool = False,
        prefix: str | None = None,
    ) -> None:
        # Prefix: MMEngine warns of every metric that has none.
        super().__init__(prefix=prefix or "unused")
        self.prefix = prefix
        self.num_clusters = None if num_clusters is None else list(num_clusters)
        self.mappings = None if mappings is None else [torch.as_tensor(m) for m in mappings]
        self.max_samples = max_samples
        self.per_image = per_image
        self.tables: list[CountTable] = []
        self.image_tables: list[ImageTables] = []
        self.samples: list[ScoredImage] = []
        self.training: Training | None = None
        self.best_epoch: BestEpoch | None = None
        self._cells: list[list[ImageCells]] = []
        self._sums: list[CountTable] = []
        self._last: list[CountTable] = []
        self._seen = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Counts the predictions of a batch.

        Raises:
            UserError: A prediction or a label out of range, or of another size.
        """
        inputs = data_batch["inputs"] if data_batch else [None] * len(data_samples)
        for image, sample in zip(inputs, data_samples, strict=True):
            label = sample["gt_sem_seg"]["data"][0]
            predictions = self._predictions(sample)
            tables = self._new_tables()
            for table, prediction in zip(tables, predictions, strict=True):
                _count(table, prediction, label, sample)
            if self.keeps:
                self._keep(image, label, predictions, sample)
            self._add(tables)

    @property
    def keeps(self) -> bool:
        """Whether the next image is one of those that are kept with their predictions."""
        return self._seen * get_world_size() + get_rank() < self.max_samples

    def add(self, counts: Sequence[Tensor]) -> None:
        """Takes an image that was counted elsewhere; none of those that are kept.

        Args:
            counts: int64 (K, C) of each set.
        """
        tables = self._new_tables()
        for table, each in zip(tables, counts, strict=True):
            table.counts = each
        self._add(tables)

    def evaluate(self, size: int) -> dict[str, float]:
        """Sums over the ranks and scores.

        Args:
            size: Number of images in the data set.

        Returns:
            Name to score in percent.
        """
        if (self._seen - 1) * get_world_size() + get_rank() < size:
            self._merge_last()
        self.tables = self._sums
        for table in self.tables:
            all_reduce(table.counts)
        if self.max_samples:
            self.samples = collect_results(self.samples, size, device="gpu") or []
        if self.per_image:
            self._gather_images(size)
        self._reset()
        scores = self.compute_metrics(self.tables)
        return {f"{self.prefix}/{k}" if self.prefix else k: v for k, v in scores.items()}

    def compute_metrics(self, results: list[CountTable]) -> dict[str, float]:
        """Scores of the tables, in percent."""
        if self.num_clusters is None:
            return self._scores(results[0], results[0].identity(), "")
        scores: dict[str, float] = {}
        for i, table in enumerate(results):
            name = f"k{table.num_clusters}/"
            scores |= self._scores(table, table.hungarian(), f"{name}hungarian/")
            if self.mappings is not None:
                scores |= self._scores(table, self.mappings[i], name)
        return scores

    def _scores(self, table: CountTable, mapping: Tensor, name: str) -> dict[str, float]:
        iou = table.iou_per_class(mapping).tolist()
        return {
            f"{name}mIoU": 100 * table.miou(mapping),
            f"{name}aAcc": 100 * table.accuracy(mapping),
            f"{name}classes_in_mean": float(sum(value == value for value in iou)),
            **{f"{name}IoU/{c}": 100 * v for c, v in zip(self._classes(), iou, strict=True)},
        }

    def _classes(self) -> Sequence[str]:
        return self.dataset_meta["classes"]

    def _new_tables(self) -> list[CountTable]:
        classes = len(self._classes())
        return [CountTable(k, classes) for k in self.num_clusters or [classes]]

    def _reset(self) -> None:
        self._sums, self._last, self._cells, self._seen = [], [], [], 0

    def _gather_images(self, size: int) -> None:
        # In the order of the data set, without those that a sampler repeated.
        images = collect_results(self._cells, size, device="gpu")
        self.image_tables = [
            ImageTables.of([image[i] for image in images], table.num_clusters, table.num_classes)
            for i, table in enumerate(self.tables if images is not None else [])
        ]

    def _add(self, tables: list[CountTable]) -> None:
        self._merge_last()
        self._last = tables
        if self.per_image:
            self._cells.append([image_cells(table) for table in tables])
        self._seen += 1

    def _merge_last(self) -> None:
        # Sampler padding: only the last image of a rank can be a repeated one.
        if not self._sums:
            self._sums = self._new_tables()
        for total, table in zip(self._sums, self._last or self._new_tables(), strict=True):
            total.merge(table)

    def _predictions(self, sample: dict) -> list[Tensor]:
        if self.num_clusters is None or "pred_clusters" not in sample:
            classes = sample["pred_sem_seg"]["data"][0]
            # Sole class: MMSegmentation takes its score for a yes or a no, as a float.
            sole = len(self.dataset_meta["classes"]) == 1
            return [torch.zeros_like(classes, dtype=torch.int64) if sole else classes]
        return list(sample["pred_clusters"]["data"])

    def _keep(
        self, image: Tensor | None, label: Tensor, predictions: list[Tensor], sample: dict
    ) -> None:
        """Keeps one of the first images for pictures."""
        if image is None:
            return
        self.samples.append(
            ScoredImage(
                Path(sample["img_path"]).stem,
                image.flip(0).permute(1, 2, 0).to(torch.uint8).cpu().numpy(),
                label.to(torch.uint8).cpu().numpy(),
                [prediction.to(torch.int32).cpu().numpy() for prediction in predictions],
            )
        )


def _count(table: CountTable, prediction: Tensor, label: Tensor, sample: dict) -> None:
    try:
        table.update(prediction, label)
    except UserError as error:
        raise UserError(f"{sample.get('seg_map_path')}: {error}") from error
