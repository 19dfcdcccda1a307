from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vice.datasets.label_sets import label_set, label_set_names, partition, table_checksum
from vice.errors import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def test_sizes_and_ignored_values():
    sizes = {name: len(label_set(name).classes) for name in label_set_names()}
    assert sizes == {
        "ade150": 150, "camvid11": 11, "cityscapes19": 19, "cityscapes27": 27, "coco27": 27,
        "msrc21": 21, "voc21": 21,
    }  # fmt: skip
    for name in label_set_names():
        labels = label_set(name)
        assert labels.lookup[255] == 255
        used = {int(v) for v in labels.lookup if 0 <= v < 255}
        assert used == set(range(len(labels.classes)))


def test_the_27_coarse_classes_of_coco():
    coco = label_set("coco27")
    assert sorted(coco.fine_names) == list(range(182))
    fine = {name: coco.classes[coco.lookup[value]] for value, name in coco.fine_names.items()}
    # The traps of this map.
    expected = {
        "fog": "water-stuff", "snow": "ground-stuff", "sand": "ground-stuff",
        "playingfield": "ground-stuff", "platform": "ground-stuff", "grass": "plant-stuff",
        "flower": "plant-stuff", "straw": "plant-stuff", "moss": "plant-stuff",
        "light": "furniture-stuff", "stairs": "furniture-stuff", "mirror-stuff": "furniture-stuff",
        "door-stuff": "furniture-stuff", "wood": "solid-stuff", "stone": "solid-stuff",
        "tent": "building-stuff", "bridge": "building-stuff", "roof": "building-stuff",
        "carpet": "floor-stuff", "rug": "textile-stuff", "mat": "textile-stuff",
    }  # fmt: skip
    assert {name: fine[name] for name in expected} == expected
    things = [value for value in coco.fine_names if coco.lookup[value] <= 11]
    assert things == list(range(91))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published map is not beside the checkout")
def test_the_map_is_the_published_one():
    rows = json.loads((SHARED / "coco_lists" / "fine182_to_coarse27.json").read_text())
    coco = label_set("coco27")
    assert len(rows) == 182
    for row in rows:
        assert coco.lookup[row["fine_index"]] == row["coarse_index"]
        assert coco.classes[row["coarse_index"]] == row["coarse_name"]
        assert coco.fine_names[row["fine_index"]] == row["fine_name"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the lists are not beside the checkout")
def test_checksums_are_those_of_the_published_lists():
    from vice.datasets.curated import CURATED, parse_list

    for split, known in CURATED.items():
        (file,) = (SHARED / "coco_lists").glob(f"{split}2017_*")
        assert len(parse_list(file, split)) == known.images


def test_names_and_order_are_mmsegmentations():
    datasets = pytest.importorskip("mmseg.datasets")
    nineteen = label_set("cityscapes19")
    assert nineteen.classes == datasets.CityscapesDataset.METAINFO["classes"]
    # Of COCO-Stuff, MMSegmentation leaves out the eleven fine classes that have no pixels.
    known = datasets.COCOStuffDataset.METAINFO["classes"]
    names = [name for _, name in sorted(label_set("coco27").fine_names.items())]
    assert len(set(names) & set(known)) >= 165


def test_cityscapes_label_ids():
    nineteen, all_classes = label_set("cityscapes19"), label_set("cityscapes27")
    assert nineteen.fine_names == all_classes.fine_names
    assert [int(all_classes.lookup[i]) for i in range(34)] == [255] * 7 + list(range(27))
    ids = {name: value for value, name in nineteen.fine_names.items()}
    for index, name in enumerate(nineteen.classes):
        assert nineteen.lookup[ids[name]] == index
        assert all_classes.classes[all_classes.lookup[ids[name]]] == name


def test_apply_maps_and_names_what_it_does_not_know():
    stored = np.array([[0, 91, 255]], np.uint8)
    assert label_set("coco27").apply(stored, "x.png").tolist() == [[9, 17, 255]]
    with pytest.raises(UserError, match=r"x\.png: holds the value 182"):
        label_set("coco27").apply(stored + np.array([[0, 91, 0]], np.uint8), "x.png")
    with pytest.raises(UserError, match="'pascal' is unknown; choose ade150, camvid11, cityscap"):
        label_set("pascal")


#: A table that is changed changes what published scores mean, and the hash of every protocol.
CHECKSUMS = {
    "ade150": "945652d730bb", "camvid11": "764df9ad53bd", "cityscapes19": "977ca0d8378d",
    "cityscapes27": "5090a09ac1b4", "coco27": "d9d43049b9c6", "msrc21": "28d5695a9bb4",
    "voc21": "4694ac43c477",
}  # fmt: skip


def test_tables_are_those_that_scores_were_published_with():
    assert {name: table_checksum(name)[:12] for name in label_set_names()} == CHECKSUMS


def test_voc_and_ade20k():
    datasets = pytest.importorskip("mmseg.datasets")
    voc, ade = label_set("voc21"), label_set("ade150")
    assert voc.classes == datasets.PascalVOCDataset.METAINFO["classes"]
    assert list(voc.classes[1:]) == sorted(voc.classes[1:])
    # One name has a space too many there.
    names = tuple(name.strip() for name in datasets.ADE20KDataset.METAINFO["classes"])
    assert ade.classes == names and len(set(names)) == 150
    assert voc.apply(np.array([[0, 20, 255]], np.uint8), "x").tolist() == [[0, 20, 255]]
    assert ade.apply(np.array([[0, 1, 150]], np.uint8), "x").tolist() == [[255, 0, 149]]
    for labels, wrong in ((voc, 21), (ade, 151)):
        with pytest.raises(UserError, match=f"holds the value {wrong}"):
            labels.apply(np.array([[wrong]], np.uint8), "x")


def test_things_and_stuff_are_parts_of_the_27_classes():
    coco = label_set("coco27").classes
    assert partition(coco) == {"things12": tuple(range(12)), "stuff15": tuple(range(12, 27))}
    assert partition(coco[::-1])["stuff15"] == tuple(range(15))
    for others in ("cityscapes27", "voc21", "msrc21"):
        assert partition(label_set(others).classes) == {}
    assert partition([*coco, "sky"]) == partition(coco[:12]) == partition(()) == {}
