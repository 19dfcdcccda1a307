"""The count table as a metric of MMSegmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS
from PIL import Image
from torch import Tensor

from vice.errors import UserError
from vice.scoring import CountTable


@METRICS.register_module()
class CountMetric(BaseMetric):
    """mIoU, pixel accuracy and IoU of each class, in percent, from one table of counts.

    Without ``num_clusters`` the prediction ``pred_sem_seg`` holds classes; reported are ``mIoU``,
    ``aAcc`` and ``IoU/<class>``. With it, each entry of ``pred_clusters`` holds clusters;
    reported are ``k<K>/hungarian/mIoU`` and so on (matched on the very labels that are scored)
    and, for given mappings, ``k<K>/mIoU``.

    The tables are added up over the ranks, so memory does not grow with the data set. As in
    MMEngine's own metrics, images must be dealt to the ranks in turn (``DefaultSampler`` without
    shuffling); those that a sampler repeats to fill up are counted once.

    Attributes:
        tables: After `evaluate`: the summed table of each set of clusters (one for classes).
        maps: Files written by this process.

    Args:
        num_clusters: Number of clusters of each set.
        mappings: Class of each cluster, for each set.
        maps_dir: Folder for the first predictions as PNG of class indices (a subfolder
            ``clusters_<K>`` for each set that has a mapping).
        max_maps: How many images to write.
        prefix: Put before each name.
    """

    def __init__(
        self,
        num_clusters: Sequence[int] | None = None,
        *,
        mappings: Sequence[Sequence[int]] | None = None,
        maps_dir: str | None = None,
        max_maps: int = 0,
        prefix: str | None = None,
    ) -> None:
        # MMEngine warns of every metric that goes by its plain names.
        super().__init__(prefix=prefix or "unused")
        self.prefix = prefix
        self.num_clusters = None if num_clusters is None else list(num_clusters)
        self.mappings = None if mappings is None else [torch.as_tensor(m) for m in mappings]
        self.maps_dir = None if maps_dir is None else Path(maps_dir)
        self.max_maps = max_maps
        self.tables: list[CountTable] = []
        self.maps: list[Path] = []
        self._sums: list[CountTable] = []
        self._last: list[CountTable] = []
        self._seen = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Counts the predictions of a batch.

        Raises:
            UserError: A prediction or a label out of range, or of another size.
        """
        for sample in data_samples:
            label = sample["gt_sem_seg"]["data"][0]
            predictions = self._predictions(sample)
            self._merge_last()
            self._last = self._new_tables()
            for table, prediction in zip(self._last, predictions, strict=True):
                _count(table, prediction, label, sample)
            self._write_maps(predictions, sample)
            self._seen += 1

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
            **{f"{name}IoU/{c}": 100 * v for c, v in zip(self._classes(), iou, strict=True)},
        }

    def _classes(self) -> Sequence[str]:
        return self.dataset_meta["classes"]

    def _new_tables(self) -> list[CountTable]:
        classes = len(self._classes())
        return [CountTable(k, classes) for k in self.num_clusters or [classes]]

    def _reset(self) -> None:
        self._sums, self._last, self._seen = [], [], 0

    def _merge_last(self) -> None:
        # Only the last image of a rank can be one that the sampler repeated.
        if not self._sums:
            self._sums = self._new_tables()
        for total, table in zip(self._sums, self._last or self._new_tables(), strict=True):
            total.merge(table)

    def _predictions(self, sample: dict) -> list[Tensor]:
        if self.num_clusters is None or "pred_clusters" not in sample:
            return [sample["pred_sem_seg"]["data"][0]]
        return list(sample["pred_clusters"]["data"])

    def _write_maps(self, predictions: list[Tensor], sample: dict) -> None:
        if self.maps_dir is None or self._seen * get_world_size() + get_rank() >= self.max_maps:
            return
        name = f"{Path(sample['img_path']).stem}.png"
        if self.num_clusters is None:
            self._write(predictions[0], self.maps_dir / name)
        elif self.mappings is not None:
            for k, prediction, mapping in zip(
                self.num_clusters, predictions, self.mappings, strict=True
            ):
                self._write(mapping[prediction.cpu()], self.maps_dir / f"clusters_{k}" / name)

    def _write(self, classes: Tensor, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(classes.to(torch.uint8).cpu().numpy()).save(path)
        self.maps.append(path)


def _count(table: CountTable, prediction: Tensor, label: Tensor, sample: dict) -> None:
    try:
        table.update(prediction, label)
    except UserError as error:
        raise UserError(f"{sample.get('seg_map_path')}: {error}") from error
