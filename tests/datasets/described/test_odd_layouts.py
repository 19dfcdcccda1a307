"""Folders that could be read wrongly: read rightly, or what is left out is said, or refused."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import vice
from tests.datasets.described.test_layouts import (
    COLORS,
    NAMES,
    SIZE,
    Layout,
    blocks,
    indices,
    palette,
    photo,
    written,
)
from vice.datasets import open_dataset
from vice.datasets.described.class_tables import Row, read_table
from vice.errors import UserError
from vice.explore.describe_folder import describe_folder
from vice.explore.segment_folder import segment_folder
from vice.models.concepts import Concepts


def check(root, truth):
    """Describes a folder and reads it; what was said."""
    said = describe_folder(root)
    data = open_dataset(root)
    assert data.splits() == sorted(truth), said
    for split, images in truth.items():
        assert data.names(split) == sorted(images), said
        for pair in data.check(split):
            wanted = images[str(pair.image.relative_to(root))]
            assert (data.read_label(pair.label, SIZE) == wanted).all(), said
    return said


def test_splits_are_never_mixed(tmp_path, rng):
    """Equal names in all splits, folders of labels that are written otherwise, and a loop."""
    layout = Layout("images/{split}/{stem}.jpg", "Labels/{split}/{stem}.png")
    truth = written(tmp_path, layout, rng)
    for split in truth:
        (tmp_path / "Labels" / split).rename(tmp_path / "Labels" / split.upper())
    os.symlink("..", tmp_path / "images" / "train" / "loop")
    check(tmp_path, truth)


@pytest.mark.parametrize(
    ("first", "second"),
    [("train2017", "val2017"), ("train_set", "validation_set"), ("Train 1", "eval"), ("tr", "dev")],
)
def test_splits_by_a_word_of_their_folder(first, second, tmp_path, rng):
    truth = written(tmp_path, Layout(splits={first: "train", second: "val"}), rng)
    check(tmp_path, truth)


def test_more_labels_than_images(tmp_path, rng):
    truth = written(tmp_path, Layout(), rng)
    for number in range(20):
        indices(blocks(rng)).save(tmp_path / "labels" / "train" / f"spare{number}.png")
    assert "20 labels without an image are left out" in check(tmp_path, truth)


def test_labels_of_several_suffixes(tmp_path, rng):
    truth = written(tmp_path, Layout(), rng)
    for split in truth:
        for number, suffix in ((0, "bmp"), (1, "PNG")):
            file = tmp_path / "labels" / split / f"{number}.png"
            Image.open(file).save(file.with_suffix(f".{suffix}.png"))
            file.with_suffix(f".{suffix}.png").rename(file.with_suffix(f".{suffix}"))
            file.unlink()
    check(tmp_path, truth)


def test_palettes_that_were_numbered_anew(tmp_path, rng):
    """A program that shrinks PNGs has given each file a palette of its own."""

    def shrunk(labels):
        order = rng.permutation(3)
        image = Image.fromarray(np.argsort(order)[labels].astype(np.uint8))
        image.putpalette(np.array(COLORS, np.uint8)[order].tobytes())
        return image

    tables = {
        "class_dict.csv": "name,r,g,b\n"
        + "".join(
            f"{name},{','.join(map(str, color))}\n"
            for name, color in zip(NAMES, COLORS, strict=True)
        )
    }
    said = check(tmp_path / "a", written(tmp_path / "a", Layout(write=shrunk, tables=tables), rng))
    assert "not indices" in said
    said = check(tmp_path / "b", written(tmp_path / "b", Layout(write=palette, tables=tables), rng))
    assert "not indices" in said

    def gray(labels):
        image = Image.fromarray((2 - labels).astype(np.uint8))
        image.putpalette(bytes([2, 2, 2, 1, 1, 1, 0, 0, 0]))
        return image

    check(tmp_path / "c", written(tmp_path / "c", Layout(write=gray), rng))


def test_a_class_of_255(tmp_path, rng):
    def write(labels):
        return Image.fromarray((labels > 0).astype(np.uint8) * 255)

    layout = Layout(write=write, wanted=lambda labels: labels > 0,
                    tables={"classes.txt": "0 road\n255 car\n"})  # fmt: skip
    check(tmp_path, written(tmp_path, layout, rng))
    assert open_dataset(tmp_path).classes == ("road", "car")


def test_own_classes_in_the_folders_of_a_release(tmp_path, rng):
    layout = Layout("JPEGImages/{stem}.jpg", "SegmentationClass/{stem}.png", splits={"x": "train"})
    truth = written(tmp_path, layout, rng)
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n2\n")
    check(tmp_path, truth)
    assert open_dataset(tmp_path).classes == NAMES


def test_lists_that_do_not_fit(tmp_path, rng):
    layout = Layout("images/{stem}.jpg", "labels/{stem}.png", splits={"x": "all"})
    written(tmp_path, layout, rng)
    (tmp_path / "train.txt").write_text("0\nnot_there\n")
    with pytest.raises(UserError, match=r"train\.txt: names not_there, .* correct this list"):
        describe_folder(tmp_path)
    (tmp_path / "train.txt").write_text("0\n1\n")
    (tmp_path / "val.txt").write_text("1\n")
    (tmp_path / "test.txt").write_text("a diary\n")
    said = describe_folder(tmp_path)
    assert "1 images are in several of the lists" in said
    assert "1 images with labels are in none of the lists" in said
    assert "test.txt is not used as a list" in said


def test_other_folders_of_images_are_named(tmp_path, rng):
    truth = written(tmp_path, Layout(), rng)
    for split in truth:
        for number in range(3):
            file = tmp_path / "thumbs" / split / f"{number}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            photo(rng).resize((8, 6)).save(file)
    assert "other images that would fit" in check(tmp_path, truth)


def test_masks_of_a_model_are_no_labels(tmp_path, rng):
    truth = written(tmp_path, Layout(), rng)
    images = sorted((tmp_path / "images").rglob("*.jpg"))
    predictor = vice.load("lab", device="cpu")
    concepts = Concepts.euclidean(torch.tensor([[0.0, 0, 0], [100, 0, 0]]))
    segment_folder(predictor, images, tmp_path / "by a model", concepts)
    said = "not looked into, since ViCE has written it: by a model"
    assert said in check(tmp_path, truth)
    shutil.rmtree(tmp_path / "labels")
    with pytest.raises(UserError, match=said):
        describe_folder(tmp_path, again=True)


@pytest.mark.parametrize("kind", ["dangling", "deep", "fifo"])
def test_json_that_is_no_annotation(kind, tmp_path, rng):
    truth = written(tmp_path, Layout(), rng)
    path = tmp_path / "x.json"
    if kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "deep":
        path.write_text("[" * 100_000)
    else:
        os.mkfifo(path)
    check(tmp_path, truth)


def test_what_nobody_could_read_is_not_written(tmp_path, rng):
    written(tmp_path, Layout(tables={"classes.txt": "0 sky\n1 grass\n1 house\n2 roof\n"}), rng)
    with pytest.raises(UserError, match=r"classes\.txt: 1 has two names, 'grass' and 'house'"):
        describe_folder(tmp_path)
    other = tmp_path / "im{stem}"
    written(other, Layout(), rng)
    (tmp_path / "classes.txt").unlink()
    for name in ("images", "labels"):
        for path in sorted((tmp_path / name).rglob("*.*g")):
            path.unlink()
    with pytest.raises(UserError, match="cannot be described .* rename what is named"):
        describe_folder(tmp_path)
    assert not (tmp_path / "dataset.yaml").exists()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("class 1\nclass 2\n", [Row("class 1"), Row("class 2")]),
        ("2 wheeler\n4 wheeler\nroad\n", [Row("2 wheeler"), Row("4 wheeler"), Row("road")]),
        ("name\nsky\ngrass\n", [Row("sky"), Row("grass")]),
        ("id,name,trainId\n0,sky,7\n1,grass,8\n", [Row("sky", 0), Row("grass", 1)]),
        ('"sky, blue",0\n"grass",1\n', [Row("sky, blue", 0), Row("grass", 1)]),
        ("sky: blue\ngrass (low)\n", [Row("sky: blue"), Row("grass (low)")]),
        ("0.0,sky\n1.0,grass\n", [Row("sky", 0), Row("grass", 1)]),
        ("road:1,2,3::\ncar:4,5,6::\n", [Row("road", None, 0x010203), Row("car", None, 0x040506)]),
    ],
)
def test_numbers_in_names_and_columns(text, rows, tmp_path):
    (tmp_path / "a.txt").write_text(text)
    assert read_table(tmp_path / "a.txt") == rows
