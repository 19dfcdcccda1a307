"""ADE20K of the challenge, on small trees and archives in its real layout."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.helpers import trees
from vice.datasets import open_dataset
from vice.datasets.preparation import prepare
from vice.errors import UserError


@pytest.fixture(autouse=True)
def small(monkeypatch):
    trees.shrink(monkeypatch)


@pytest.fixture
def downloads(tmp_path):
    return trees.ade(tmp_path / "downloads")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data" / "ade20k"


@pytest.mark.parametrize("packed", [False, True])
def test_prepared_and_read(tmp_path, downloads, root, packed):
    source = tmp_path / "packed" if packed else downloads
    if packed:
        trees.zipped(downloads, ".", source / "ADEChallengeData2016.zip")
    lines = prepare("ade150", root, source)
    assert len(lines) == 6
    assert lines[-1] == (
        "ade150 val: 2 images and label maps, 150 of 150 classes; 2 with pixels to be "
        "ignored, 0 of another size than their image"
    )
    data = open_dataset("ade150", root.parent)
    assert data.splits() == ["train", "val"] and len(data.classes) == 150
    assert len(data.check("train")) == 3
    for pair in data.check("val"):
        stored, labels = np.asarray(Image.open(pair.label)), data.read_label(pair.label)
        assert (labels == np.where(stored == 0, 255, stored - 1)).all()
    assert len(prepare("ade150", tmp_path / "t", source, purpose="training")) == 1


def annotation(downloads, split="validation", name="ADE_val_00000001"):
    return downloads / "ADEChallengeData2016/annotations" / split / f"{name}.png"


def shift(stored):
    return stored - np.uint8(1)


def shift_void_to_wall(stored):
    return np.maximum(stored, 1) - np.uint8(1)


def one_more(stored):
    return stored + np.uint8(1)


def turned(stored):
    return stored.T.copy()


def half(stored):
    return stored[::2, ::2].copy()


def colored(stored):
    return np.stack([stored] * 3, -1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shift, r"ADE_train_0000000.\.png: holds 255, which no annotation of the challenge does"),
        (shift_void_to_wall, "no pixel of flag in the 3 label maps of train"),
        (one_more, "holds the value 151, which label set ade150 does not know"),
        (turned, "36x44 pixels, but its image .* has 44x36; they must match"),
        (half, "22x18 pixels, but its image .* has 44x36; they must match"),
        (colored, "pixel format 'RGB'"),
    ],
)
def test_other_values_and_sizes_are_refused(downloads, root, damage, message):
    for path in annotation(downloads).parents[1].rglob("*.png"):
        Image.fromarray(damage(np.asarray(Image.open(path)))).save(path)
    with pytest.raises(UserError, match=message):
        prepare("ade150", root, downloads)


def test_a_part_of_the_release_is_refused(downloads, root):
    prepare("ade150", root, downloads)
    annotation(downloads).unlink()
    with pytest.raises(UserError, match=r"no label map for ADE_val_00000001\.jpg"):
        open_dataset("ade150", root.parent).pairs("val")
    (root / "images/validation/ADE_val_00000001.jpg").unlink()
    with pytest.raises(UserError, match="1 images, but val of ADE20K's challenge has 2; complete"):
        open_dataset("ade150", root.parent).pairs("val")
    with pytest.raises(UserError, match="the official release has 2: repeat the call"):
        prepare("ade150", root, downloads)
    with pytest.raises(UserError, match="has the splits train and val, not test"):
        open_dataset("ade150", root.parent).pairs("test")
