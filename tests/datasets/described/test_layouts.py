"""Folders as people have them: each is recognized, described, and read to the pixel."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vice.datasets import open_dataset
from vice.datasets.described.described_set import open_described
from vice.datasets.described.description import NAME, read_description
from vice.datasets.described.recognize import recognize
from vice.errors import UserError
from vice.evaluation.protocols import get_protocol
from vice.evaluation.task import make_task
from vice.explore.describe_folder import describe_folder

NAMES = ("sky", "grass", "house")
COLORS = ((70, 130, 180), (0, 128, 0), (200, 30, 30))
SIZE = (24, 32)


def photo(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def blocks(rng: np.random.Generator, count: int = 3) -> np.ndarray:
    """Class indices in large patches; all classes occur."""
    small = rng.integers(0, count, (4, 4))
    small.flat[:count] = np.arange(count)
    return small.repeat(6, 0).repeat(8, 1)


def indices(labels: np.ndarray) -> Image.Image:
    return Image.fromarray(labels.astype(np.uint8))


def counted_from_one(labels: np.ndarray) -> Image.Image:
    """Values 1..N, and a corner of 0."""
    values = labels + 1
    values[:2, :2] = 0
    return Image.fromarray(values.astype(np.uint8))


def palette(labels: np.ndarray) -> Image.Image:
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(np.array(COLORS, np.uint8).tobytes())
    return image


def colors(labels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.array(COLORS, np.uint8)[labels])


def colors_with_void(labels: np.ndarray) -> Image.Image:
    pixels = np.array(COLORS, np.uint8)[labels]
    pixels[:2, :2] = 0
    return Image.fromarray(pixels)


def deep(labels: np.ndarray) -> Image.Image:
    """16-bit values beyond a byte."""
    return Image.fromarray((labels * 1000 + 7).astype(np.uint16))


def binary(labels: np.ndarray) -> Image.Image:
    return Image.fromarray((labels > 0).astype(np.uint8) * 255)


def one_bit(labels: np.ndarray) -> Image.Image:
    return Image.fromarray((labels > 0).astype(np.uint8) * 255).convert("1")


def gray_rgb(labels: np.ndarray) -> Image.Image:
    return Image.fromarray(labels.astype(np.uint8)).convert("RGB")


@dataclass(frozen=True)
class Layout:
    """A way of keeping a data set.

    Attributes:
        image: Path of an image, of ``{split}`` and ``{stem}``.
        label: Path of its label.
        write: Makes the label's file from class indices.
        wanted: What is read, from class indices.
        classes: Names that are found.
        tables: Further files.
        splits: Names that folders have, and those that they stand for.
        encoding: Of the further files.
    """

    image: str = "images/{split}/{stem}.jpg"
    label: str = "labels/{split}/{stem}.png"
    write: Callable[[np.ndarray], Image.Image] = indices
    wanted: Callable[[np.ndarray], np.ndarray] = lambda labels: labels
    classes: tuple[str, ...] = NAMES
    tables: dict[str, str] = field(default_factory=lambda: {"classes.txt": "sky\ngrass\nhouse\n"})
    splits: dict[str, str] = field(default_factory=lambda: {"train": "train", "val": "val"})
    encoding: str = "utf-8"


def corner(labels: np.ndarray) -> np.ndarray:
    wanted = labels.copy()
    wanted[:2, :2] = 255
    return wanted


NONE: dict[str, str] = {}
BY_COLOR = {
    "class_dict.csv": "name,r,g,b\n"
    + "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in zip(NAMES, COLORS, strict=True))
}
MASKS = ("background", "foreground")
LAYOUTS = {
    "as the plain folder": Layout(),
    "splits above": Layout("{split}/images/{stem}.jpg", "{split}/masks/{stem}.png"),
    "other names of splits": Layout(
        "img/{split}/{stem}.jpeg", "annotations/{split}/{stem}.png",
        splits={"training": "train", "validation": "val"}),
    "beside the images": Layout("{split}/{stem}.jpg", "{split}/{stem}.png"),
    "beside them, with a suffix": Layout("{split}/{stem}.jpg", "{split}/{stem}_mask.png"),
    "beside them, PNG both": Layout("{split}/{stem}.png", "{split}/{stem}_mask.png"),
    "beside them, with a prefix": Layout("{split}/{stem}.png", "{split}/mask_{stem}.png"),
    "elsewhere, with a suffix": Layout("x/{split}/{stem}.png", "y/{split}/{stem}-labels.png"),
    "folders of scenes": Layout("images/{split}/s{stem}/{stem}.jpg",
                                "labels/{split}/s{stem}/{stem}.png"),
    "stems repeated in folders": Layout("images/{split}/s{stem}/0.png",
                                        "labels/{split}/s{stem}/0_label.png"),
    "folders of scenes, labels beside": Layout("{split}/s{stem}/x{stem}.png",
                                               "{split}/s{stem}/x{stem}_mask.png"),
    "folders of scenes with folders": Layout("{split}/s{stem}/rgb/7.png",
                                             "{split}/s{stem}/semantic/7.png"),
    "splits below scenes": Layout("s{stem}/{split}/img/7.jpg", "s{stem}/{split}/gt/7.png"),
    "a folder for each image": Layout("{split}/sample {stem}/image.jpg",
                                      "{split}/sample {stem}/mask.png"),
    "accents of another system": Layout("images/{split}/e\u0301 {stem}.jpg",
                                        "labels/{split}/\xe9 {stem}.png"),
    "TIFF": Layout("images/{split}/{stem}.tif", "labels/{split}/{stem}.tif"),
    "suffixes in capitals": Layout("images/{split}/{stem}.JPG", "labels/{split}/{stem}.PNG"),
    "BMP": Layout(label="labels/{split}/{stem}.bmp"),
    "spaces and umlauts": Layout("bilder ö/{split}/{stem} a.jpg", "marken ö/{split}/{stem} a.png"),
    "palette": Layout(write=palette),
    "gray as RGB": Layout(write=gray_rgb),
    "colors, table of names": Layout(write=colors, tables=BY_COLOR),
    "colors, other table": Layout(write=colors, tables={"label_colors.txt": "".join(
        f"{r} {g} {b}\t{name}\n" for name, (r, g, b) in zip(NAMES, COLORS, strict=True))}),
    "colors, JSON": Layout(write=colors, tables={"classes.json": json.dumps(
        [{"name": name, "color": color} for name, color in zip(NAMES, COLORS, strict=True)])}),
    "colors with black": Layout(write=colors_with_void, wanted=corner, tables=BY_COLOR),
    "colors without a table": Layout(
        write=colors, tables=NONE, wanted=lambda labels: np.array([1, 0, 2])[labels],
        classes=("color 0 128 0", "color 70 130 180", "color 200 30 30")),
    "counted from one": Layout(write=counted_from_one, wanted=corner),
    "counted from one, void named": Layout(
        write=counted_from_one, wanted=corner, tables={"classes.txt": "void\nsky\ngrass\nhouse\n"}),
    "values without a table": Layout(tables=NONE, classes=("class 0", "class 1", "class 2")),
    "16-bit": Layout(
        write=deep, tables={"classes.csv": "id,name\n7,sky\n1007,grass\n2007,house\n"}),
    "binary": Layout(write=binary, wanted=lambda labels: labels > 0, classes=MASKS, tables=NONE),
    "one bit": Layout(write=one_bit, wanted=lambda labels: labels > 0, classes=MASKS, tables=NONE),
    "merged": Layout(wanted=lambda labels: np.array([0, 0, 1])[labels], classes=("out", "house"),
                     tables={"classes.csv": "0,out\n1,out\n2,house\n"}),
    "names and values": Layout(tables={"classes.txt": "sky 0\ngrass 1\nhouse 2\n"}),
    "UTF-16": Layout(tables={"classes.txt": "sky: 0\ngrass: 1\nhouse: 2\n"}, encoding="utf-16"),
    "an ignored class": Layout(wanted=lambda labels: np.array([255, 0, 1])[labels],
                               classes=("grass", "house"),
                               tables={"classes.csv": "0,unlabeled\n1,grass\n2,house\n"}),
}  # fmt: skip


def written(
    root: Path, layout: Layout, rng: np.random.Generator
) -> dict[str, dict[str, np.ndarray]]:
    """Writes three images of each split; their class indices by split and image."""
    truth: dict[str, dict[str, np.ndarray]] = {}
    for split, known in layout.splits.items():
        for number in range(3):
            fill = {"split": split, "stem": f"{number}"}
            labels = blocks(rng)
            for template, image in (
                (layout.image, photo(rng)),
                (layout.label, layout.write(labels)),
            ):
                path = root / template.format(**fill)
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
            image_path = str((root / layout.image.format(**fill)).relative_to(root))
            truth.setdefault(known, {})[image_path] = np.asarray(layout.wanted(labels))
    for name, text in layout.tables.items():
        (root / name).write_text(text, layout.encoding)
    return truth


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name, tmp_path, rng):
    layout, root = LAYOUTS[name], tmp_path / "my data"
    truth = written(root, layout, rng)
    said = describe_folder(root)
    data = open_dataset(root)
    assert data.classes == layout.classes, said
    assert data.splits() == sorted(truth), said
    for split, images in truth.items():
        pairs = data.check(split)
        assert data.names(split) == sorted(images)
        for pair in pairs:
            wanted = images[str(pair.image.relative_to(root))]
            assert (data.read_label(pair.label, SIZE) == wanted).all(), said
        assert data.audit(split) == 3
    again = read_description(root / NAME)
    assert again == open_described(root / NAME).description and len(again.digest) == 12
    with pytest.raises(UserError, match="--again"):
        describe_folder(root)


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("train.txt", "photos\\0.jpg\r\nphotos\\2.jpg\r\n", "utf-16"),
        ("train.csv", "mask,image\nmasks/0.png,photos/0.jpg\nmasks/2.png,photos/2.jpg\n", "utf-8"),
        ("train.csv", "id\n0\n2\n", "utf-8-sig"),
        ("train.tsv", "0\t9\n2\t9\n", "utf-8"),
        ("train.lst", "/elsewhere/photos/0.jpg /elsewhere/masks/0.png\n2.jpg\n", "utf-8"),
    ],
)
def test_lists_as_programs_write_them(name, text, encoding, tmp_path, rng):
    layout = Layout("photos/{stem}.jpg", "masks/{stem}.png", splits={"x": "all"})
    written(tmp_path, layout, rng)
    (tmp_path / name).write_bytes(text.encode(encoding))
    describe_folder(tmp_path)
    data = open_dataset(tmp_path)
    assert data.splits() == ["train"] and data.names("train") == ["photos/0.jpg", "photos/2.jpg"]


def test_names_that_repeat_are_not_guessed(tmp_path, rng):
    layout = Layout("photos/s{stem}/0.jpg", "masks/s{stem}/0.png", splits={"x": "all"})
    written(tmp_path, layout, rng)
    (tmp_path / "train.txt").write_text("s1/0\n0\n")
    with pytest.raises(UserError, match=r"names 0, which may be s0/0 or s1/0: write the folder"):
        describe_folder(tmp_path)


def test_sizes_that_differ_are_counted(tmp_path, rng):
    written(tmp_path, Layout(), rng)
    for number in (1, 2):
        path = tmp_path / "labels" / "train" / f"{number}.png"
        Image.open(path).resize((64, 40)).save(path)
    with pytest.raises(
        UserError, match=r"2 of 6 labels have another size .* first is .*1\.png: 64x40"
    ):
        describe_folder(tmp_path)


def test_what_is_neither_is_said(tmp_path, rng):
    written(tmp_path, Layout(), rng)
    photo(rng).save(tmp_path / "cover.png")
    assert "1 of 13 files that could be images or labels are neither" in describe_folder(tmp_path)


def test_splits_by_lists_and_a_folder_without_splits(tmp_path, rng):
    layout = Layout("images/{stem}.jpg", "labels/{stem}.png", splits={"x": "all"})
    truth = written(tmp_path, layout, rng)["all"]
    assert recognize(tmp_path).counts == {"all": 3}
    (tmp_path / "train.txt").write_text("images/0.jpg\n2\n")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "val.txt").write_text("1.jpg\n\n")
    (tmp_path / "notes.txt").write_text("nothing of this kind\n")
    describe_folder(tmp_path, show=2)
    data = open_dataset(tmp_path)
    assert data.splits() == ["train", "val"]
    assert data.names("train") == ["images/0.jpg", "images/2.jpg"]
    (pair,) = data.pairs("val")
    assert (data.read_label(pair.label) == truth["images/1.jpg"]).all()
    page = (tmp_path / "dataset.html").read_text()
    assert page.count("<img") == 3 and all(f"</span>{name}" in page for name in NAMES)
    assert "http" not in page


def test_images_without_labels_are_counted(tmp_path, rng):
    written(tmp_path, Layout(), rng)
    photo(rng).save(tmp_path / "images" / "train" / "more.jpg")
    indices(blocks(rng)).save(tmp_path / "labels" / "val" / "spare.png")
    said = describe_folder(tmp_path)
    assert "1 images without labels and 1 labels without an image are left out" in said
    data = open_dataset(tmp_path)
    assert len(data.check("train")) == 3
    found = {content.kind: content.ignored for content in data.contents("val")}
    assert found == {"images of val": {}, "labels of val": {"without a partner": 1}}
    text = (tmp_path / NAME).read_text().replace("unpaired: skip", "unpaired: refuse")
    (tmp_path / NAME).write_text(text)
    with pytest.raises(UserError, match="no labels for more"):
        open_dataset(tmp_path).check("train")


def test_several_kinds_of_labels(tmp_path, rng):
    layout = Layout()
    truth = written(tmp_path, layout, rng)
    for split in truth:
        for file in (tmp_path / "labels" / split).glob("*.png"):
            shown = tmp_path / "labels_color" / split / file.name
            shown.parent.mkdir(parents=True, exist_ok=True)
            colors(np.asarray(Image.open(file))).save(shown)
    said = describe_folder(tmp_path)
    assert "others that would fit: labels_color/" in said
    data = open_dataset(tmp_path)
    pair = data.pairs("train")[0]
    assert pair.label == tmp_path / "labels" / "train" / "0.png"


@pytest.mark.parametrize("as_stored", [True, False])
def test_exif(as_stored, tmp_path, rng):
    written(tmp_path, Layout(), rng)
    for split in ("train", "val"):
        path = tmp_path / "images" / split / "0.jpg"
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path, exif=exif)
        if not as_stored:
            label = tmp_path / "labels" / split / "0.png"
            Image.fromarray(np.asarray(Image.open(label)).T.copy()).save(label)
    found = recognize(tmp_path).description
    assert found.exif == ("ignore" if as_stored else "apply")
    describe_folder(tmp_path)
    data = open_dataset(tmp_path)
    native = get_protocol("native").hash
    task = make_task("lab", tmp_path, "out")
    assert task.protocol.exif == ("ignore" if as_stored else "layout")
    assert (task.protocol.hash != native) is as_stored
    plain = str(tmp_path / "images")
    partly = make_task("lab", plain, "out", fit_dataset=tmp_path).protocol
    assert partly.exif == ("fit_ignore" if as_stored else "layout")
    with pytest.raises(UserError, match=r"exif=score_ignore, but the data sets say"):
        make_task("lab", tmp_path, "out", changes={"exif": "score_ignore"})
    assert data.upright is not as_stored and len(data.check("train")) == 3
    other = "apply" if as_stored else "ignore"
    text = (tmp_path / NAME).read_text().replace(f"exif: {found.exif}", f"exif: {other}")
    (tmp_path / NAME).write_text(text)
    assert open_described(tmp_path).digest != found.digest
    # What changes the pixels of a score is in the hash of its protocol.
    assert (make_task("lab", tmp_path, "out").protocol.hash != native) is not as_stored
    with pytest.raises(UserError, match=r"0\.png: .* pixels, but its image"):
        open_dataset(tmp_path).check("train")


def test_published_layouts(tmp_path, rng):
    from tests.helpers import trees

    for name, make in (("cityscapes", trees.cityscapes), ("voc", trees.voc), ("ade", trees.ade)):
        root = tmp_path / name
        make(root, rng)
        release = {"cityscapes": "cityscapes19", "voc": "voc21", "ade": "ade150"}[name]
        describe_folder(root)
        data = open_dataset(root)
        from vice.datasets import open_release

        theirs = open_release(release, root)
        assert data.classes == theirs.classes and not data.upright
        for split in set(data.splits()) & set(theirs.splits()):
            ours = {pair.image: pair.label for pair in data.pairs(split)}
            for pair in theirs.pairs(split):
                assert (data.read_label(ours[pair.image]) == theirs.read_label(pair.label)).all()
