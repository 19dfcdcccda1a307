"""Results are not written where images and labels are read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vice.datasets import open_dataset
from vice.errors import UserError
from vice.evaluation.out_of_data import files_of, keep_out_of_data
from vice.evaluation.task import make_task


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    for folder in ("images/train", "images/val", "labels/train", "labels/val"):
        (root / folder).mkdir(parents=True)
        pixels = np.zeros((8, 8), np.uint8)
        pixels[:4] = 1
        Image.fromarray(pixels).save(root / folder / "a.png")
    (root / "classes.txt").write_text("dark\nlight\n")
    return root


PLACES = {
    ".": True, "images": True, "images/train": True, "images/val/new": True, "labels/val": True,
    "labels/train/a/b": True, "images/val/../train": True, "link": True,
    "out": False, "images/test": False, "labels2": False, "..": False, "../out": False,
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_where_results_may_go(place, data, monkeypatch):
    (data / "link").symlink_to(data / "labels" / "val")
    monkeypatch.chdir(data)
    for out in (data / place, place):
        task = make_task("lab", data, out, protocol="native")
        if PLACES[place]:
            with pytest.raises(UserError, match="is no place for results: images or labels are re"):
                task.open()
        else:
            task.open()


def test_files_without_labels_count(data):
    files = list(files_of(open_dataset(data).pairs("train", labels=False)))
    with pytest.raises(UserError, match="images/train, and pictures"):
        keep_out_of_data(data / "images" / "train", data, files)
    keep_out_of_data(data / "labels" / "train", data, files)
