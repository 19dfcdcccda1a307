"""Files of a split: none is left out without a word."""

from __future__ import annotations

import pytest
from PIL import Image

from vice.datasets.labelled_folder import open_folder
from vice.errors import UserError


@pytest.fixture
def root(tmp_path):
    for kind, mode in (("images", "RGB"), ("labels", "L")):
        (tmp_path / kind / "val").mkdir(parents=True)
        for name in ("a", "b"):
            Image.new(mode, (6, 4)).save(tmp_path / kind / "val" / f"{name}.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    return tmp_path


def move(root, old, new):
    (root / new).parent.mkdir(parents=True, exist_ok=True)
    (root / old).rename(root / new)


HINTS = {
    "mask": ("labels/val/a.png", "labels/val/a_mask.png", "if a_mask is meant: give both"),
    "prefix": ("labels/val/a.png", "labels/val/mask_a.png", "if mask_a is meant"),
    "case": ("images/val/a.png", "images/val/A.png", "a differs in letter case"),
    "tif": ("labels/val/a.png", "labels/val/a.tif", r"a\.tif lies there, .*convert it to PNG"),
    "raw": ("images/val/a.png", "images/val/a.CR2", r"no image for a\.png \(a\.CR2 lies there"),
    "deep": ("images/val/a.png", "images/val/cam/a.png", r"folders below, such as .*cam/a\.png"),
    "deeper": ("images/val/a.png", "images/val/x/y.z/a.png", r"x/y\.z/a\.png, .*move them up"),
}


@pytest.mark.parametrize("case", HINTS)
def test_what_may_be_meant_is_named(root, case):
    old, new, message = HINTS[case]
    move(root, old, new)
    with pytest.raises(UserError, match=message):
        open_folder(root).pairs("val")


def test_accents_that_are_stored_in_two_ways(root):
    move(root, "images/val/a.png", "images/val/\u00e9.png")
    move(root, "labels/val/a.png", "labels/val/e\u0301.png")
    with pytest.raises(UserError, match="how accents are stored"):
        open_folder(root).pairs("val")


def test_files_of_systems_are_counted_and_left_out(root):
    for name in ("Thumbs.db", ".DS_Store", "._a.png", "@eaDir/a.png", "__MACOSX/._a.png"):
        (root / "images/val" / name).parent.mkdir(exist_ok=True)
        (root / "images/val" / name).write_bytes(b"x")
    folder = open_folder(root)
    assert len(folder.pairs("val")) == 2
    images, labels = folder.contents("val")
    assert images.used == {".png": 2} and images.ignored == {".db": 1} and images.hidden == 2
    assert images.inner == ["@eaDir", "__MACOSX"]
    assert labels.line() == f"{root / 'labels/val'}: 2 label maps (.png 2)"


def test_letter_case_tells_stems_apart(root):
    for kind in ("images", "labels"):
        folder = root / kind / "val"
        (folder / "A.png").write_bytes((folder / "a.png").read_bytes())
    names = [pair.label.name for pair in open_folder(root).pairs("val")]
    assert names == ["A.png", "a.png", "b.png"]
