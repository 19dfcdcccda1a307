from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import trees
from vice.datasets import open_dataset
from vice.datasets.label_sets import label_set
from vice.datasets.labelled_set import list_checksum
from vice.errors import UserError


@pytest.fixture
def data(tmp_path):
    trees.cityscapes(tmp_path / "cityscapes")
    trees.camvid(tmp_path)
    (tmp_path / "CamVid").rename(tmp_path / "camvid")
    return tmp_path


def test_names_are_found_below_the_data_root_or_vice_data(data, monkeypatch):
    monkeypatch.setenv("VICE_DATA", str(data))
    assert open_dataset("camvid").splits() == ["train", "val"]
    assert len(open_dataset("cityscapes19", data).classes) == 19
    monkeypatch.chdir(data)
    monkeypatch.delenv("VICE_DATA")
    with pytest.raises(UserError, match="data/camvid: no such folder, so no camvid"):
        open_dataset("camvid")


def test_splits_can_be_joined_and_read_without_labels(data):
    city = open_dataset("cityscapes27", data)
    both = city.check("val+train")
    assert [pair.image.parents[1].name for pair in both] == ["val", "val", "train", "train"]
    assert {pair.label for pair in city.pairs("train", labels=False)} == {None}
    (data / "cityscapes/gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"no \*_gtFine_labelIds\.png for ulm_000000_000019_left"):
        city.pairs("val")
    assert len(city.pairs("val", labels=False)) == 2
    with pytest.raises(UserError, match="splits with labels here: train, val"):
        city.pairs("night")


def test_label_maps_are_read_as_classes(data):
    nineteen, all_classes = (open_dataset(f"cityscapes{n}", data) for n in (19, 27))
    for pair in nineteen.pairs("train"):
        few, many = nineteen.read_label(pair.label), all_classes.read_label(pair.label)
        assert few.dtype == np.uint8 and set(np.unique(few)) <= {*range(19), 255}
        # Whatever one of the 19 is, is one of the 27 under the same name.
        for index in set(np.unique(few)) - {255}:
            (other,) = np.unique(many[few == index])
            assert nineteen.classes[index] == all_classes.classes[other]


def test_the_checksum_is_of_the_list_and_not_of_the_place(data, tmp_path):
    camvid = open_dataset("camvid", data)
    expected = list_checksum([f"val/0001TP_{i:06d}.png" for i in range(2)])
    assert camvid.checksum("val") == expected
    (data / "camvid").rename(data / "moved")
    (data / "x").mkdir()
    (data / "moved").rename(data / "x" / "camvid")
    assert open_dataset("camvid", data / "x").checksum("val") == expected


def test_a_benchmark_in_the_plain_layout_keeps_its_classes(tmp_path):
    root = tmp_path / "msrc21"
    for kind in ("images", "labels"):
        (root / kind / "test").mkdir(parents=True)
        trees.save(np.zeros((4, 4), np.uint8), root / kind / "test" / "a.png")
    names = label_set("msrc21").classes
    (root / "classes.txt").write_text("\n".join(names))
    assert open_dataset("msrc21", tmp_path).name == "msrc21"
    (root / "classes.txt").write_text("\n".join(["house", *names[1:]]))
    with pytest.raises(UserError, match="not the 21 classes of msrc21: 'house' instead of 'buil"):
        open_dataset("msrc21", tmp_path)
    assert open_dataset(root).classes[0] == "house"


def test_neither_a_name_nor_a_folder(tmp_path):
    with pytest.raises(UserError, match="'ade20k' is neither a folder nor one of coco27, city"):
        open_dataset("ade20k", tmp_path)
