"""Labelled data sets: the benchmarks by name, any folder by path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vice.datasets.ade20k import Ade20k
from vice.datasets.described.described_set import is_description, open_described
from vice.datasets.label_sets import label_set
from vice.datasets.labelled_folder import open_folder
from vice.datasets.labelled_set import ImageLabelPair, LabelledSet
from vice.datasets.official import CamVid, Cityscapes, CocoStuff, open_as_folder
from vice.datasets.voc import PascalVoc
from vice.errors import UserError
from vice.nearest import did_you_mean, near_path
from vice.paths import from_home

__all__ = ["DATASETS", "Benchmark", "ImageLabelPair", "LabelledSet", "open_dataset"]


@dataclass(frozen=True)
class Benchmark:
    """A data set that is known by name.

    Attributes:
        labels: Name of its label set.
        folder: Name of its folder below the data root.
        layout: Class that reads its official layout; None where there is only the plain folder.
        score: Split that papers score.
    """

    labels: str
    folder: str
    layout: type[LabelledSet] | None
    score: str = "val"


DATASETS = {
    "coco27": Benchmark("coco27", "coco", CocoStuff),
    "cityscapes27": Benchmark("cityscapes27", "cityscapes", Cityscapes),
    "cityscapes19": Benchmark("cityscapes19", "cityscapes", Cityscapes),
    "camvid": Benchmark("camvid11", "camvid", CamVid),
    "msrc21": Benchmark("msrc21", "msrc21", None, "test"),
    "voc21": Benchmark("voc21", "voc", PascalVoc),
    "ade150": Benchmark("ade150", "ade20k", Ade20k),
}


def open_dataset(name: str | Path, data_root: str | Path | None = None) -> LabelledSet:
    """Opens a labelled data set.

    Args:
        name: A key of ``DATASETS``, the path of a folder in the layout of
            `vice.datasets.labelled_folder`, or of one with a ``dataset.yaml``, or of that file.
        data_root: Folder that holds the benchmarks' folders; default the environment variable
            ``VICE_DATA``, or ``data``.

    Returns:
        The data set. A benchmark that lies in the plain layout (it has a ``classes.txt``) is read
        as such, under its own classes.

    Raises:
        UserError: Neither a known name nor a folder, or the folder is missing.
    """
    known = DATASETS.get(str(name))
    if known is None:
        # Empty: a path of no characters is the working directory.
        name = from_home(name) if str(name) else name
        if str(name) and is_description(name):
            return open_described(name)
        if not str(name) or not os.path.isdir(name):
            raise UserError(
                f"data set {str(name)!r} is neither a folder nor one of {', '.join(DATASETS)}"
                + (did_you_mean(str(name), DATASETS) or near_path(name))
            )
        return open_folder(name)
    root = from_home(data_root or os.environ.get("VICE_DATA", "data")) / known.folder
    if not root.is_dir():
        raise UserError(
            f"{root}: no such folder, so no {name}; name the folder above it with --data-root or "
            "VICE_DATA (tools/prepare_data.py prepares the official archives)"
        )
    if known.layout is None or (root / "classes.txt").is_file():
        return open_as_folder(root, str(name), label_set(known.labels).classes)
    return open_release(str(name), root)


def open_release(name: str, root: Path) -> LabelledSet:
    """Opens a benchmark in the layout of its release.

    Args:
        name: A key of ``DATASETS`` that has such a layout.
        root: Its folder, whatever that is called.

    Returns:
        The data set.
    """
    layout, labels = DATASETS[name].layout, label_set(DATASETS[name].labels)
    if layout is None:
        raise ValueError(f"{name} has the plain layout only")
    return layout(root, labels.classes, labels, name)
