"""Annotations in COCO's format: polygons, run lengths, crowds, what overlaps, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vice.datasets import open_dataset
from vice.datasets.described.coco_json import read_annotations
from vice.datasets.described.description import NAME
from vice.errors import UserError
from vice.explore.describe_folder import describe_folder

pytest.importorskip("pycocotools")
HEIGHT, WIDTH = 20, 30


def rectangle(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def run_lengths(mask: np.ndarray) -> dict[str, object]:
    """Lengths of runs of 0 and 1 in turn, column by column, as the format has them."""
    flat = mask.T.ravel()
    counts, value = [], 0
    position = 0
    while position < len(flat):
        end = position
        while end < len(flat) and flat[end] == value:
            end += 1
        counts.append(end - position)
        position, value = end, 1 - value
    return {"size": list(mask.shape), "counts": counts}


@pytest.fixture
def tree(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two splits: a large cat, a small dog in front of it, a crowd, and one image without any."""
    noisy = np.zeros((HEIGHT, WIDTH), int)
    noisy[3:9, 20:28] = rng.integers(0, 2, (6, 8))
    for split in ("train2017", "val2017"):
        folder = tmp_path / split
        folder.mkdir()
        for number in (1, 2, 3):
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:012d}.jpg")
        content = {
            "images": [
                {"id": n, "file_name": f"{n:012d}.jpg", "height": HEIGHT, "width": WIDTH}
                for n in (1, 2, 3)
            ],
            "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 18, "segmentation": rectangle(6, 6, 9, 9)},
                {"id": 2, "image_id": 1, "category_id": 17,
                 "segmentation": rectangle(2, 2, 12, 12)},
                {"id": 3, "image_id": 2, "category_id": 18, "segmentation": run_lengths(noisy)},
                {"id": 4, "image_id": 2, "category_id": 17, "iscrowd": 1,
                 "segmentation": run_lengths(np.eye(HEIGHT, WIDTH, dtype=int))},
            ],
        }  # fmt: skip
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return tmp_path


def test_drawn_to_the_pixel(tree, rng):
    said = describe_folder(tree)
    assert "the smallest is in front" in said and "pixels of 1 crowds" in said
    data = open_dataset(tree)
    assert data.classes == ("background", "cat", "dog") and data.splits() == ["train", "val"]
    pairs = data.check("train")
    first = np.zeros((HEIGHT, WIDTH), int)
    first[2:12, 2:12] = 1
    first[6:9, 6:9] = 2
    assert (data.read_label(pairs[0].label, (HEIGHT, WIDTH)) == first).all()
    notes = read_annotations(tree / "annotations" / "instances_train2017.json")
    code = notes.shapes[2][0]["segmentation"]["counts"]
    ends = np.cumsum(code)
    second = np.zeros(HEIGHT * WIDTH, int)
    for start, end in zip(ends[0::2], ends[1::2], strict=False):
        second[start:end] = 2
    second = second.reshape(WIDTH, HEIGHT).T.copy()
    crowd = np.eye(HEIGHT, WIDTH, dtype=bool)
    # The crowd has fewer pixels than the dog or more: whichever is smaller is in front.
    front = crowd if crowd.sum() < (second == 2).sum() else crowd & (second != 2)
    second[front] = 255
    assert (data.read_label(pairs[1].label) == second).all()
    assert (data.read_label(pairs[2].label) == 0).all()


def test_unlabelled_may_be_ignored(tree):
    describe_folder(tree)
    text = (tree / NAME).read_text()
    text = text.replace("unlabelled: background", "unlabelled: ignore").replace(
        "- background\n", ""
    )
    (tree / NAME).write_text(text)
    data = open_dataset(tree)
    assert data.classes == ("cat", "dog")
    labels = data.read_label(data.pairs("val")[0].label)
    assert labels[0, 0] == 255 and labels[3, 3] == 0 and labels[7, 7] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].update(category_id=99), "annotation 1 is of no category"),
        (lambda c: c["annotations"][0].update(segmentation=[]), "annotation 1 cannot be drawn"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2]]), "annotation 1 cannot be"),
        (lambda c: c["annotations"][2]["segmentation"].update(size=[5, 5]), "of 5x5 pixels|drawn"),
        (lambda c: c["images"][0].pop("height"), "not in COCO's format"),
        (lambda c: c["images"][0].update(height=21), r"30x21 pixels, but its image .* has 30x20"),
        (lambda c: c.update(images=[]), "no image of train has labels|names none of the images"),
    ],
)
def test_what_is_wrong_is_named(change, message, tree):
    describe_folder(tree)
    path = tree / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        data = open_dataset(tree)
        for pair in data.check("train"):
            data.read_label(pair.label)
