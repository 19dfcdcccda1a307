"""``dataset.yaml`` by hand, and folders that cannot be described."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from tests.datasets.described.test_layouts import NAMES, Layout, blocks, colors, indices, written
from vice.datasets import open_dataset
from vice.datasets.described.class_tables import Row, read_table
from vice.datasets.described.description import NAME, read_description
from vice.datasets.described.meanings import find_meanings
from vice.datasets.described.recognize import recognize
from vice.datasets.described.stored_values import pack, read_values
from vice.errors import UserError
from vice.explore.describe_folder import describe_folder

WHOLE = """\
format: vice-dataset-1
name: x
splits:
  train: {images: "images/train/{stem}.*", labels: "labels/train/{stem}.png"}
classes: [sky, grass, house]
values: {0: sky, 1: grass, 2: house, 255: ignore}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("vice-dataset-1", "2", "format must be vice-dataset-1"),
        ("name: x", "nmae: x", "unknown key 'nmae'"),
        ("2: house", "2: hose", "2 is 'hose', which is neither a class nor ignore"),
        ("2: house, ", "", "none means house"),
        ("2: house", "-2: house", "-2 is neither a whole number nor a color"),
        ("2: house", "1 2 300: house", "neither a whole number nor a color"),
        ("2: house", "1 2 3: house", "all numbers, or all colors"),
        ("[sky, grass, house]", "[sky, sky]", "different names"),
        ("[sky, grass, house]", "[1, 2]", "classes must be a list of texts"),
        ("[sky, grass, house]", "[]", "different names"),
        ("{stem}.*", "x.*", "a template holds {stem} once"),
        ("{stem}.*", "{stem}/{folder}.*", "holds {folder} once, before {stem}"),
        ("images/train/", "{folder}/", "both templates hold {folder}, or neither"),
        ("images/train/", "/images/", "paths lie below root"),
        ("images/train/", "../", "paths lie below root"),
        ("{images:", "{image:", "train must have images, labels"),
        ("name: x", "exif: maybe", "exif must be apply or ignore"),
        ("name: x", "unlabelled: what", "unlabelled: 'what' is neither"),
        ("name: x", "name: [", "not whole"),
        ("name: x", "name: !!python/object:os.system x", "not whole"),
        ("splits:", "splits: {}\nmore:", "unknown key 'more'"),
    ],
)
def test_what_a_description_may_not_say(old, new, message, tmp_path):
    assert old in WHOLE
    (tmp_path / NAME).write_text(WHOLE.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as error:
        open_dataset(tmp_path)
    assert str(error.value).startswith(str(tmp_path / NAME)) and "\n" not in str(error.value)


def test_read_by_hand(tmp_path, rng):
    """The same labels under another order of classes, two of them merged, from another folder."""
    truth = written(tmp_path / "data", Layout(), rng)
    text = WHOLE.replace("[sky, grass, house]", "[house, out]")
    text = text.replace("0: sky, 1: grass", "0: out, 1: out").replace(
        "name: x", "name: x\nroot: data"
    )
    (tmp_path / "mine.yaml").write_text(text)
    data = open_dataset(tmp_path / "mine.yaml")
    for pair in data.check("train"):
        wanted = np.array([1, 1, 0])[truth["train"][f"images/train/{pair.image.name}"]]
        assert (data.read_label(pair.label) == wanted).all()
    with pytest.raises(UserError, match="no split 'val'; dataset.yaml describes train"):
        data.pairs("val")
    reasons = read_description(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_text(text + "decisions: [because]\n")
    assert read_description(tmp_path / "mine.yaml").digest == reasons.digest


def test_a_value_that_is_not_described(tmp_path, rng):
    written(tmp_path, Layout(), rng)
    describe_folder(tmp_path)
    file = tmp_path / "labels" / "train" / "2.png"
    labels = np.array(Image.open(file))
    labels[0, 0] = 9
    indices(labels).save(file)
    data = open_dataset(tmp_path)
    with pytest.raises(UserError, match=r"2\.png: holds 9 .* add it there under values"):
        data.audit("train")
    colors(blocks(rng)).save(file)
    with pytest.raises(UserError, match=r"2\.png: holds colors, and dataset.yaml describes values"):
        data.audit("train")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(label="labels/{split}/{stem}.jpg"), "no labels that go with its images"),
        (Layout(label="labels/{split}/other{stem}x{stem}.png", image="images/{split}/{stem}z.jpg"),
         "no labels that go with"),
        (Layout(tables={"classes.csv": "0,sky\n1,grass\n"}), r"1 values \(2; .* no name in"),
        (Layout(write=colors), "has no color for sky"),
        (Layout(write=colors, tables={"classes.csv": "sky,70,130,180\n"}), "values .* no name"),
    ],
)  # fmt: skip
def test_what_cannot_be_described(layout, message, tmp_path, rng):
    written(tmp_path, layout, rng)
    with pytest.raises(UserError, match=message):
        recognize(tmp_path)


def floating(labels):
    return Image.fromarray(labels.astype(np.float32))


def transparent(labels):
    return Image.fromarray(np.stack([labels, labels * 0], -1).astype(np.uint8), "LA")


def wild(labels):
    """As many values as there are pixels, and none like its neighbor."""
    return Image.fromarray(np.arange(labels.size).reshape(labels.shape).astype(np.uint16))


def noise(labels):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 200, labels.shape).astype(np.uint8))


PASSED_OVER = {
    "floating": (floating, "tif", r"0\w*\.tif: its values are floating point, which no class is"),
    "transparent": (transparent, "png", r"0\w*\.png: labels with transparent pixels"),
    "wild": (wild, "png", r"0\w*\.png: holds \d+ different values, more than labels have"),
    "noise": (noise, "png", r"0\w*\.png: few of its pixels are like those beside them"),
    "JPEG": (indices, "jpg", r"0\w*\.jpg: is a JPEG file, which may change the values"),
    "WebP": (indices, "webp", r"0\w*\.webp: is a WEBP file, which may change the values"),
    "CMYK": (lambda labels: colors(labels).convert("CMYK"), "tif", "'CMYK' cannot hold labels"),
}
#: Where labels lie, and whether a word says so.
LABELS = {
    "labels/{split}/{stem}": True,
    "{split}/{stem}_mask": True,
    "y/{split}/{stem}": False,
    "segmentation/y/{split}/{stem}": False,
}


@pytest.mark.parametrize("place", LABELS)
@pytest.mark.parametrize("case", PASSED_OVER)
def test_why_files_are_no_labels_is_said(case, place, tmp_path, rng):
    write, suffix, message = PASSED_OVER[case]
    image = place.rpartition("/")[0].replace("labels", "images").replace("y/", "x/") + "/{stem}.jpg"
    written(tmp_path, Layout(image, f"{place}.{suffix}", write), rng)
    with pytest.raises(UserError, match="no labels that go with its images") as error:
        recognize(tmp_path)
    looks_like_an_image = case in ("wild", "noise", "JPEG")
    said = re.search(f"of 3 files that may be meant, .*{message}", str(error.value))
    assert bool(said) == (LABELS[place] or not looks_like_an_image)


def test_of_names_that_do_not_fit_nothing_is_passed_over(tmp_path, rng):
    layout = Layout("images/{split}/{stem}z.jpg", "labels/{split}/other{stem}x{stem}.png")
    written(tmp_path, layout, rng)
    with pytest.raises(UserError, match="in COCO's format$"):
        recognize(tmp_path)


def test_numbers_of_objects_are_no_classes():
    with pytest.raises(UserError, match="256 different values: labels have at most 255"):
        find_meanings(dict.fromkeys(range(300, 556), 1), [], colors=False)


def test_folders_without_anything(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        recognize(tmp_path / "x")
    with pytest.raises(UserError, match="no images in this folder"):
        recognize(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.txt", "sky\ngrass\n", [Row("sky"), Row("grass")]),
        ("a.txt", "0 sky\n1 tall grass\n", [Row("sky", 0), Row("tall grass", 1)]),
        ("a.csv", "name,id\nsky,4\n", [Row("sky", 4)]),
        ("a.csv", "id;name;r;g;b\n4;sky;1;2;3\n", [Row("sky", 4, int(pack(1, 2, 3)))]),
        ("a.txt", "1 2 3 sky\n", [Row("sky", None, int(pack(1, 2, 3)))]),
        ("a.txt", "sky: (1, 2, 3)\n", [Row("sky", None, int(pack(1, 2, 3)))]),
        ("a.txt", "# heads\n\nsky #0a0b0c\n", [Row("sky", None, 0x0A0B0C)]),
        ("a.json", '{"sky": 3, "house": 5}', [Row("sky", 3), Row("house", 5)]),
        ("a.json", '{"3": "sky"}', [Row("sky", 3)]),
        ("a.json", '["sky", "house"]', [Row("sky"), Row("house")]),
        ("a.json", '{"categories": [{"id": 3, "name": "sky"}]}', [Row("sky", 3)]),
    ],
)
def test_tables_of_classes(name, text, rows, tmp_path):
    (tmp_path / name).write_text(text)
    assert read_table(tmp_path / name) == rows


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_gray_of_few_bits_is_as_it_was_written(bits, tmp_path):
    """A PNG written by hand: readers stretch its values, and here they are not."""
    import struct
    import zlib

    values = np.arange(8) % 2**bits
    row = 0
    for value in values:
        row = row << bits | int(value)
    raw = b"\0" + row.to_bytes(len(values) * bits // 8, "big")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", len(values), 1, bits, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw))
    (tmp_path / "x.png").write_bytes(png + chunk(b"IEND", b""))
    found, is_color = read_values(tmp_path / "x.png")
    assert found.tolist() == [values.tolist()] and not is_color


def test_scored_like_the_plain_folder(tmp_path, rng):
    """Through MMSegmentation: the counts of colors that are described, and of plain indices."""
    pytest.importorskip("mmseg")
    from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters

    counts = {}
    for name, layout in (("plain", Layout()), ("described", Layout(write=colors, tables={
        "classes.csv": "sky,70,130,180\ngrass,0,128,0\nhouse,200,30,30\n"}))):  # fmt: skip
        root = tmp_path / name
        written(root, layout, np.random.default_rng(0))
        if name == "described":
            describe_folder(root)
        result = evaluate_clusters(spec="lab", dataset=str(root), out_dir=tmp_path / f"{name}-out",
                                   clusters=[3], device="cpu", workers=0)  # fmt: skip
        counts[name] = result["clusters"]["3"]
        described = result["dataset"].get("description")
        assert (described is None) == (name == "plain")
        assert result["classes"] == list(NAMES)
    assert counts["plain"] == counts["described"]


def test_names_too_long_for_a_disk(tmp_path):
    """They are missing files like any others."""
    long = "n" * 5000
    for call in (lambda: recognize(tmp_path / long), lambda: open_dataset(long)):
        with pytest.raises(UserError, match=r"no such folder|is neither a folder"):
            call()
