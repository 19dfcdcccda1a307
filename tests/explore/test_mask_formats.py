"""Masks in other programs' formats, read again by pycocotools, OpenCV, Pillow, or by the format."""

from __future__ import annotations

import csv
import json
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import vice
from tests.helpers.content import photo
from vice.command import export_masks as command
from vice.errors import UserError
from vice.explore.export_masks import export_masks
from vice.explore.label_studio import encode_brush
from vice.explore.mask_files import read_mask
from vice.explore.mask_formats import FORMATS
from vice.explore.segment_folder import segment_folder
from vice.explore.specks import remove_specks
from vice.models.concepts import Concepts

NAMES = ["black", 'gray "50", dark', "white"]


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """Two photographs by their lightness, one of them in a folder below."""
    root, rng = tmp_path_factory.mktemp("masks"), np.random.default_rng(0)
    (root / "photos" / "in").mkdir(parents=True)
    for name, size in (("a.jpg", (40, 61)), ("in/b.png", (33, 20))):
        Image.fromarray(photo(rng, size)).save(root / "photos" / name)
    concepts = Concepts.euclidean(torch.tensor([[0.0, 0, 0], [50, 0, 0], [100, 0, 0]]))
    images = sorted((root / "photos").rglob("*.*g"))
    segment_folder(vice.load("lab", device="cpu"), images, root / "out", concepts, names=NAMES)
    return root / "out"


def truth(segmented):
    with (segmented / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        row["mask"]: (row["image"], read_mask(segmented / "masks" / row["mask"])) for row in rows
    }


def test_coco(segmented, tmp_path):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    assert export_masks(segmented, tmp_path / "x", "coco").endswith(
        "annotations of 2 images; images are named as they were given"
    )
    coco = COCO(tmp_path / "x" / "annotations.json")
    assert [each["name"] for each in coco.loadCats(coco.getCatIds())] == NAMES
    by_image = dict(truth(segmented).values())
    for image in coco.loadImgs(coco.getImgIds()):
        labels = by_image[image["file_name"]]
        seen = np.full(labels.shape, -1)
        for each in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(each).astype(bool)
            seen[mask] = each["category_id"] - 1
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            assert each["area"] == mask.sum() and each["bbox"] == box
        assert (seen == labels).all()


def test_yolo(segmented, tmp_path):
    """Each line drawn again is a part of its concept without holes."""
    export_masks(segmented, tmp_path / "x", "yolo")
    assert (tmp_path / "x" / "data.yaml").read_text().count("\n") == 4
    for mask, (_, labels) in truth(segmented).items():
        height, width = labels.shape
        wanted = [np.zeros_like(labels, np.uint8) for _ in NAMES]
        drawn = [np.zeros_like(labels, np.uint8) for _ in NAMES]
        for concept in range(3):
            found, _ = cv2.findContours((labels == concept).astype(np.uint8), cv2.RETR_EXTERNAL,
                                        cv2.CHAIN_APPROX_NONE)  # fmt: skip
            cv2.drawContours(wanted[concept], found, -1, 1, cv2.FILLED)
        lines = (tmp_path / "x" / "labels" / mask).with_suffix(".txt").read_text().splitlines()
        for line in lines:
            concept, *shares = line.split()
            points = np.array(shares, float).reshape(-1, 2)
            assert len(points) >= 3 and (points >= 0).all() and (points <= 1).all()
            pixels = np.rint(points * (width, height) - 0.5).astype(np.int32)
            cv2.fillPoly(drawn[int(concept)], [pixels.clip(0, [width - 1, height - 1])], 1)
        for concept in range(3):
            share = (drawn[concept] != wanted[concept]).mean()
            assert share < 0.02, (mask, concept, share)


def test_png_and_fiftyone(segmented, tmp_path):
    export_masks(segmented, tmp_path / "png", "png")
    said = export_masks(segmented, tmp_path / "51", "fiftyone")
    assert said == "2 masks, 2 images"
    assert (tmp_path / "png" / "classes.txt").read_text().splitlines() == NAMES
    targets = json.loads((tmp_path / "51" / "mask_targets.json").read_text())
    for mask, (image, labels) in truth(segmented).items():
        with Image.open(tmp_path / "png" / mask) as file:
            assert file.mode == "L" and (np.asarray(file) == labels).all()
        theirs = cv2.imread(str(tmp_path / "51" / "labels" / mask), cv2.IMREAD_UNCHANGED)
        assert (theirs == labels + 1).all()
        assert targets[str(int(theirs.max()))] == NAMES[labels.max()]
        copied = (tmp_path / "51" / "data" / mask).with_suffix(Path(image).suffix)
        assert copied.read_bytes() == Path(image).read_bytes()


def test_cvat(segmented, tmp_path):
    export_masks(segmented, tmp_path / "x", "cvat")
    with zipfile.ZipFile(tmp_path / "x" / "cvat.zip") as file:
        lines = file.read("labelmap.txt").decode().splitlines()[1:]
        colors = {}
        for line in lines:
            name, color, _, _ = line.split(":")
            colors[tuple(map(int, color.split(",")))] = name
        assert list(colors.values()) == ["background", *NAMES]
        listed = file.read("ImageSets/Segmentation/default.txt").decode().split()
        assert listed == [mask.removesuffix(".png") for mask in truth(segmented)]
        for mask, (_, labels) in truth(segmented).items():
            with file.open(f"SegmentationClass/{mask}") as picture:
                pixels = np.asarray(Image.open(picture))
            found = [[colors[tuple(pixel)] for pixel in row] for row in pixels.tolist()]
            assert found == [[NAMES[label] for label in row] for row in labels.tolist()]


def decoded(rle: list[int]) -> np.ndarray:
    """The bytes of a picture, as the format is read."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    position = 0

    def take(count: int) -> int:
        nonlocal position
        value = int(bits[position : position + count], 2)
        position += count
        return value

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        repeated, length = take(1), None
        length = take(sizes[take(2)]) + 1
        values += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    return np.array(values)


def test_label_studio(segmented, tmp_path):
    export_masks(segmented, tmp_path / "x", "labelstudio")
    tasks = json.loads((tmp_path / "x" / "tasks.json").read_text())
    by_image = dict(truth(segmented).values())
    for task in tasks:
        labels = by_image[task["data"]["image"]]
        seen = np.full(labels.shape, -1)
        for each in task["predictions"][0]["result"]:
            picture = decoded(each["value"]["rle"]).reshape(*labels.shape, 4)
            seen[picture[..., 3] == 255] = NAMES.index(each["value"]["brushlabels"][0])
        assert (seen == labels).all()
    import xml.etree.ElementTree as tree

    named = [
        label.get("value") for label in tree.parse(tmp_path / "x" / "config.xml").iter("Label")
    ]
    assert named == NAMES


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (300, 280)])
def test_brushes_of_any_length(shape, rng):
    for mask in (np.zeros(shape, bool), np.ones(shape, bool), rng.random(shape) < 0.01):
        wanted = np.repeat(mask.ravel() * 255, 4)
        assert (decoded(encode_brush(mask)) == wanted).all()


def test_specks(rng):
    labels = np.zeros((20, 30), int)
    labels[5:15, 10:20] = 1
    whole = labels.copy()
    labels[0, 0] = 2
    labels[7:9, 12:14] = 0
    labels[2, 25:28] = 1
    assert (remove_specks(labels, 5) == whole).all()
    assert (remove_specks(labels, 1) == labels).all()
    noise = rng.integers(0, 4, (12, 12))
    assert (remove_specks(noise, 10**6) == noise).all()


def test_the_command_and_what_it_refuses(segmented, tmp_path, monkeypatch, capsys):
    assert list(command.FORMATS) == list(FORMATS)
    words = [str(segmented), "--to", "png", "-o", str(tmp_path / "x"), "--min-area", "9"]
    monkeypatch.setattr(sys, "argv", ["vice export-masks", *words])
    command.main()
    assert capsys.readouterr().out == f"{tmp_path / 'x'}: 2 masks\n"
    for mask, (_, labels) in truth(segmented).items():
        assert (read_mask(tmp_path / "x" / mask) == remove_specks(labels, 9)).all()
    with pytest.raises(UserError, match="is not empty"):
        command.main()
    with pytest.raises(UserError, match="holds no finished masks of vice segment"):
        export_masks(tmp_path, tmp_path / "y", "png")
