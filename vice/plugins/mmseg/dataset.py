"""The labelled-folder layout as a data set of MMSegmentation."""

from __future__ import annotations

from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from vice.datasets.labelled_folder import open_folder
from vice.errors import UserError


@DATASETS.register_module()
class ViceFolderDataset(BaseSegDataset):
    """One split of a data set in the layout of `vice.datasets.labelled_folder`.

    Args:
        data_root: The data set's folder.
        split: Name of the split.
        **kwargs: What `BaseSegDataset` takes: ``pipeline``, ``test_mode``, ``indices`` and so on.

    Raises:
        UserError: What is missing or wrong in the folder.
    """

    def __init__(self, data_root: str, split: str, **kwargs: Any) -> None:
        self.folder = open_folder(data_root)
        self.split = split
        super().__init__(
            data_root=data_root,
            data_prefix={},
            metainfo={"classes": self.folder.classes},
            **kwargs,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """One record for each image of the split, sorted by name."""
        return [
            {
                "img_path": str(pair.image),
                "seg_map_path": str(pair.label),
                "label_map": self.label_map,
                "reduce_zero_label": self.reduce_zero_label,
                "seg_fields": [],
            }
            for pair in self.folder.pairs(self.split)
        ]

    def prepare_data(self, idx: int) -> Any:
        """Runs the pipeline on one record.

        Raises:
            UserError: The label map holds an index that is no class and not 255.
        """
        data = super().prepare_data(idx)
        sample = data.get("data_samples") if isinstance(data, dict) else None
        if sample is not None and "gt_sem_seg" in sample:
            self._check_labels(sample)
        return data

    def _check_labels(self, sample: Any) -> None:
        labels, count = sample.gt_sem_seg.data, len(self.folder.classes)
        wrong = labels[(labels >= count) & (labels != self.ignore_index)]
        if len(wrong):
            raise UserError(
                f"{sample.seg_map_path}: class index {int(wrong[0])}, but classes.txt names only "
                f"{count} classes (0..{count - 1}; {self.ignore_index} means ignore)"
            )
