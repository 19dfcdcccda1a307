"""Labelled data sets of ViCE, by name or path, as a data set of MMSegmentation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from mmengine.registry import DefaultScope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from torch.utils.data import get_worker_info

from vice.datasets import ImageLabelPair, open_dataset
from vice.datasets.subsets import take_listed, take_subset
from vice.errors import UserError
from vice.evaluation.protocols import Protocol
from vice.evaluation.task import resolve_protocol
from vice.images import Reading
from vice.plugins.mmseg.batches import Draw
from vice.plugins.mmseg.pipelines import ROLES, build_pipeline
from vice.runtime.loader_faults import answer_what_cannot_be_sent

CROPS = {"whole": 1, "five": 5}


@DATASETS.register_module()
class ViceDataset(BaseSegDataset):
    """One split of a labelled data set under a protocol.

    Args:
        dataset: Name of a benchmark or path of a folder, as in `vice.datasets.open_dataset`.
        protocol: As in `vice.evaluation.task.resolve_protocol`; a config holds a name or fields.
        role: ``"train"``, ``"fit"`` or ``"score"``, see
            `vice.plugins.mmseg.pipelines.build_pipeline`; also says which split is read.
        reading: As of `vice.images.Reading`, in plain values; None reads 8-bit RGB.
        data_path: Folder that holds the benchmarks' folders (``data_root`` is MMEngine's).
        fraction: Share of the split that is used, in (0, 1].
        subset_seed: Which subset of that size.
        listed: File that lists the subset instead, see `vice.datasets.subsets.take_listed`.
        pipeline: Transforms instead of the protocol's.
        **kwargs: What `BaseSegDataset` takes: ``test_mode``, ``indices`` and so on.

    Raises:
        UserError: What is missing or wrong in the data set or the protocol.
    """

    def __init__(
        self,
        dataset: str,
        *,
        protocol: Protocol | str | dict[str, Any] = "native",
        role: str = "score",
        data_path: str | None = None,
        reading: dict[str, Any] | None = None,
        fraction: float = 1.0,
        subset_seed: int = 0,
        listed: str | None = None,
        pipeline: list[dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        if role not in ROLES:
            raise UserError(f"role {role!r} is unknown; choose one of {', '.join(ROLES)}")
        read = None if reading is None else Reading.of(reading, "reading")
        self.source = replace(open_dataset(dataset, data_path), reading=read)
        self.protocol = resolve_protocol(protocol, dataset)
        self.role = role
        self.subset = (fraction, subset_seed, listed)
        # Registry scope: transforms are found by plain names wherever this is called from.
        with DefaultScope.overwrite_default_scope("mmseg"):
            super().__init__(
                data_prefix={},
                metainfo={"classes": self.source.classes},
                pipeline=build_pipeline(self.protocol, role) if pipeline is None else pipeline,
                **kwargs,
            )

    @property
    def split(self) -> str:
        """The split that is read."""
        return self.protocol.score_split if self.role == "score" else self.protocol.fit_split

    def load_data_list(self) -> list[dict[str, Any]]:
        """One record for each image of the split and each crop of it."""
        fitting = self.role != "score"
        pairs = self.source.pairs(self.split, labels=self.protocol.fit_labels or not fitting)
        if fitting:
            pairs = keep_subset(pairs, *self.subset)
        return [
            {
                "img_path": str(pair.image),
                "seg_map_path": None if pair.label is None else str(pair.label),
                "crop": crop,
                "reduce_zero_label": False,
                "seg_fields": [],
            }
            for pair in pairs
            for crop in range(CROPS[self.protocol.fit_crops] if fitting else 1)
        ]

    def __getitem__(self, idx: int | Draw) -> dict[str, Any]:
        """One sample; what is random in the transforms of a `Draw` follows from its seed alone."""
        if get_worker_info() is not None:
            answer_what_cannot_be_sent()
        if isinstance(idx, Draw):
            # Global RNG: MMCV's transforms draw from NumPy's.
            np.random.seed(idx.seed)
            idx = idx.image
        return super().__getitem__(idx)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """One record; the data set that reads its labels is added here, not stored in each."""
        return {**super().get_data_info(idx), "vice_dataset": self.source}


def keep_subset(
    pairs: list[ImageLabelPair], fraction: float, seed: int, listed: str | None = None
) -> list[ImageLabelPair]:
    """The pairs whose image's stem `take_subset`, or `take_listed`, takes, in their order."""
    images = {pair.image.stem: pair.image for pair in pairs}
    if listed is None:
        kept = take_subset(list(images), fraction, seed)
    else:
        kept = take_listed(images, listed)
    return [pair for pair in pairs if pair.image.stem in kept]
