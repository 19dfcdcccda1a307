from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image

from vice.errors import UserError
from vice.evaluation.protocols import get_protocol
from vice.plugins.mmseg import ViceDataset

from .helpers import read_label


def build(root, role="train", **kwargs):
    return DATASETS.build({"type": "ViceDataset", "dataset": str(root), "role": role, **kwargs})


def test_is_registered_and_reads_pairs_in_order(make_folder):
    root = make_folder()
    dataset = build(root, "score", test_mode=True)
    assert isinstance(dataset, ViceDataset)
    assert len(dataset) == 5
    assert list(dataset.metainfo["classes"]) == ["red", "green", "blue", "never seen"]
    for i in range(5):
        sample = dataset[i]
        label = read_label(root, "val", f"{i:02d}")
        np.testing.assert_array_equal(sample["data_samples"].gt_sem_seg.data[0], label)
        assert sample["inputs"].shape == (3, *label.shape)
        assert (label == 255).any()


def test_indices_take_a_part(make_folder):
    assert len(build(make_folder(), indices=2)) == 2


def test_a_class_that_is_none_is_named_with_its_file(make_folder):
    root = make_folder()
    path = root / "labels" / "train" / "01.png"
    label = np.asarray(Image.open(path)).copy()
    label[5, 5] = 31
    Image.fromarray(label).save(path)
    dataset = build(root)
    dataset[0]
    with pytest.raises(UserError, match=r"01\.png: class index 31.*4 classes"):
        dataset[1]


def test_what_is_missing_is_named(make_folder):
    root = make_folder()
    with pytest.raises(UserError, match="test: no such folder"):
        build(root, "score", protocol=asdict(get_protocol("native", score_split="test")))
    (root / "labels" / "train" / "00.png").unlink()
    with pytest.raises(UserError, match=r"no label map for 00\.png"):
        build(root)
