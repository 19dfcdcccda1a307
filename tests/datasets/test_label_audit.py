"""Damage to label maps that no single value shows."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.hostile.label_damage import TURNS, blocks, exif, save
from vice.datasets import label_audit, open_dataset
from vice.datasets.labelled_folder import open_folder
from vice.datasets.official import CamVid
from vice.errors import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def data(tmp_path):
    """Builds a labelled folder of one split from label maps and numbers of classes."""

    def build(maps, classes):
        for kind in ("images", "labels"):
            (tmp_path / kind / "val").mkdir(parents=True)
        for number, values in enumerate(maps):
            name = f"{number:0{len(str(len(maps) - 1))}}.png"
            Image.new("RGB", values.shape[::-1]).save(tmp_path / "images/val" / name)
            save(values.astype(np.uint8), tmp_path / "labels/val" / name)
        (tmp_path / "classes.txt").write_text("".join(f"sort {i} of\n" for i in range(classes)))
        return open_folder(tmp_path)

    return build


def two(*values):
    label = np.full((8, 10), values[0])
    label[:, 4:] = values[1]
    label[0] = values[-1]
    return label


REFUSED = {
    "mask": ([two(0, 255)] * 3, 2, r"3 label maps .*only class 0 \(sort 0 of\) of the 2 .*255"),
    "one class": ([two(1, 1)], 4, "hold only class 1"),
    "no class": ([two(255, 255)], 4, "hold no class of the 4"),
    "two codings": ([two(0, 1), two(0, 255)], 2, r"val/1\.png: holds 0 and 255 where others"),
    "grey levels": ([two(0, 128, 255)], 3, "class index 128.*multiples of 128: .*divide"),
    "0 and 254": ([two(0, 254)], 2, "class index 254"),
    "from 1": ([two(1, 2)], 2, "class index 2.*count from 1, subtract 1"),
    "0 unlabelled": ([two(0, 1, 2)], 2, "if 0 means unlabelled, write 255"),
    "factor": ([two(0, 50, 100)] * 2, 200, r"multiples of 50 \(0, 50 to 100\): .*divide them"),
}
TAKEN = {
    "plain": ([two(0, 1)], 2),
    "ignored borders": ([two(0, 1, 255), two(0, 255), two(0, 1)], 2),
    "one class of one": ([two(0, 255)], 1),
    "a map without classes": ([two(255, 255), two(0, 1)], 2),
    "even classes": ([two(0, 2, 4)], 7),
    "0 absent": ([two(1, 2)], 3),
}


@pytest.mark.parametrize("case", REFUSED)
def test_values_that_mean_something_else(data, case):
    maps, classes, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        data(maps, classes).audit("val")


@pytest.mark.parametrize("case", TAKEN)
def test_values_that_are_as_they_should_be(data, case):
    maps, classes = TAKEN[case]
    assert data(maps, classes).audit("val") == len(maps)


def test_large_splits_are_read_in_part_and_a_second_class_is_looked_for(data, monkeypatch):
    monkeypatch.setattr(label_audit, "MOST_READ", 3)
    folder = data([two(0, 0)] * 9 + [two(0, 1)] * 2, 2)
    assert folder.audit("val") == 3  # the first, one in the middle, and the last
    last = folder.root / "labels/val/10.png"
    save(two(0, 0).astype(np.uint8), last)
    assert folder.audit("val") > 3
    save(two(0, 0).astype(np.uint8), folder.root / "labels/val/09.png")
    with pytest.raises(UserError, match="11 label maps"):
        folder.audit("val")


@pytest.mark.parametrize("kind", ["bilinear", "bicubic", "jpeg"])
@pytest.mark.parametrize("seed", range(3))
def test_interpolated_label_maps(data, kind, seed):
    rng = np.random.default_rng(seed)
    source = Image.fromarray(blocks(rng, rng.choice(np.arange(5, 60, 9), 4, replace=False)))
    if kind == "jpeg":
        file = io.BytesIO()
        source.save(file, "JPEG", quality=60)
        damaged = np.asarray(Image.open(file))
    else:
        damaged = np.asarray(source.resize((75, 50), getattr(Image.Resampling, kind.upper())))
    with pytest.raises(UserError, match=r"0\.png: \d+ % of its borders run over values between"):
        data([np.clip(damaged, 0, 253)], 254).audit("val")
    nearest = np.asarray(source.resize((75, 50), Image.Resampling.NEAREST))
    look = label_audit.look_at(nearest)
    assert look.between <= label_audit.MOST_BETWEEN * look.borders


def _with_palette(folder, number, order, colors):
    """Rewrites a label map: the class of index i in the file is order[i]."""
    path = folder.root / f"labels/val/{number}.png"
    label = Image.fromarray(np.argsort(order)[np.asarray(Image.open(path))].astype(np.uint8))
    label.putpalette(np.asarray(colors, np.uint8)[list(order)].tobytes())
    label.save(path)


def test_palettes_that_each_file_numbers_by_itself(data):
    colors = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (0, 0, 0)]
    folder = data([two(0, 1, 2)] * 3, 4)
    for number in range(3):
        _with_palette(folder, number, (0, 1, 2, 3), colors)
    assert folder.audit("val") == 3
    _with_palette(folder, 2, (0, 2, 1, 3), colors)
    with pytest.raises(UserError, match=r"2\.png: the color \(0, 128, 0\) has index 1 .* and 2 in"):
        folder.audit("val")


def test_a_color_of_several_classes_is_no_other_numbering(data):
    colors = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (0, 0, 0)]
    folder = data([two(0, 1), two(3, 1), two(1, 2)], 4)
    for number in range(3):
        _with_palette(folder, number, (0, 1, 2, 3), colors)
    assert folder.audit("val") == 3


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_pipes_are_not_waited_for(data, kind):
    folder = data([two(0, 1)], 2)
    (folder.root / kind / "val/0.png").unlink()
    os.mkfifo(folder.root / kind / "val/0.png")
    with pytest.raises(UserError, match="no regular file"):
        folder.check("val")


@pytest.mark.skipif(not SHARED.is_dir(), reason="real label maps are not beside the checkout")
@pytest.mark.parametrize("name", ["msrc21", "camvid", "coco100", "voc_animals", "labelmefacade"])
def test_real_label_maps_are_taken(name, monkeypatch):
    monkeypatch.setattr(label_audit, "MOST_READ", 40)
    folder = open_folder(SHARED / name)
    folder.check("val")
    assert folder.audit("val") == 40


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_photographs_that_are_turned_by_exif(data, orientation, suffix):
    folder = data([two(0, 1)], 2)
    image, label = folder.root / f"images/val/0.{suffix}", folder.root / "labels/val/0.png"
    (folder.root / "images/val/0.png").unlink()
    stored = two(0, 1).astype(np.uint8)
    upright = np.asarray(Image.fromarray(stored).transpose(TURNS[orientation]))
    Image.new("RGB", (10, 8)).save(image, exif=exif(orientation))
    save(stored, label)
    with pytest.raises(UserError, match=rf"0\.{suffix} has the EXIF orientation {orientation}"):
        folder.check("val")
    save(upright, label)
    if orientation >= 5:
        folder.check("val")
        assert (folder.read_label(label) == upright).all()
    else:
        with pytest.raises(UserError, match="the label map has none: if it belongs"):
            folder.check("val")
    # A label map that says so itself is turned as its photograph is.
    save(stored, label, exif=exif(orientation))
    folder.check("val")
    assert (folder.read_label(label) == upright).all()


def test_a_release_is_read_as_it_is_stored(tmp_path):
    for folder in ("val", "valannot"):
        (tmp_path / "camvid" / folder).mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (8, 10, 3), np.uint8)
    image = tmp_path / "camvid" / "val" / "0.png"
    Image.fromarray(pixels).save(image, exif=exif(6))
    label = two(0, 1).astype(np.uint8)
    save(label, tmp_path / "camvid" / "valannot" / "0.png")
    camvid = open_dataset("camvid", tmp_path)
    assert isinstance(camvid, CamVid)
    camvid.check("val")
    assert camvid.audit("val") == 1
    pytest.importorskip("mmseg")
    from vice.plugins.mmseg.transforms import ViceLoadImage, ViceLoadLabels

    (pair,) = camvid.pairs("val")
    record = {"img_path": str(pair.image), "seg_map_path": str(pair.label), "seg_fields": []}
    record["vice_dataset"] = camvid
    record = ViceLoadLabels().transform(ViceLoadImage().transform(record))
    assert (record["img"][..., ::-1] == pixels).all()
    assert (record["gt_seg_map"] == label).all()


def test_palettes(data):
    folder = data([two(0, 1)], 30)
    path = folder.root / "labels/val/0.png"
    image = Image.fromarray(two(0, 1).astype(np.uint8)).convert("P")
    for palette in ([5, 5, 5, 9, 9, 9], [1, 1, 1, 0, 0, 0]):
        image.putpalette(palette)
        image.save(path)
        with pytest.raises(UserError, match=rf"index 0 as grey {palette[0]}, and both are classes"):
            folder.audit("val")
    for palette in ([0, 0, 0, 255, 255, 255], [0, 0, 0, 1, 1, 1], [5, 6, 5, 9, 9, 9], [99] * 6):
        image.putpalette(palette)
        image.save(path)
        assert folder.audit("val") == 1


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ([0, 11, 22, 255], "all values are multiples of 11"),
        # One value is a multiple of itself: the list of classes may be too short.
        ([11, 255], "classes.txt must name every value"),
        ([0, 11], "multiples of 11: if they were scaled, divide by it; if not, classes.txt"),
        ([0, 7, 11], "classes.txt must name every value"),
    ],
)
def test_what_is_said_of_a_class_that_is_none(values, hint):
    error = label_audit.out_of_range("a.png", np.array([values], np.uint8), "streets", 5)
    assert hint in str(error)
