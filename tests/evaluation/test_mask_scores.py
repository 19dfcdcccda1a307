"""Masks of files against labels: by hand, pixel by pixel, and from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.forked import ROOT, Forked
from vice.datasets import open_dataset
from vice.errors import UserError
from vice.evaluation.mask_scores import NONE, NamedMasks, classes_of, score_masks
from vice.explore.mask_files import write_mask
from vice.explore.mask_way import MASKS
from vice.explore.segment_folder import RECORD, SUMMARY

CLASSES = ("sky", "house", "road")
NAMES = ["Sky", "wall", "window", "people"]
SAID = {"wall": "house", "window": "house", "people": None}
VOID = 255


@pytest.fixture
def data(tmp_path, rng):
    """Five labelled images of three classes, with ignored pixels; the last class is absent."""
    root = tmp_path / "data"
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    for number in range(5):
        label = rng.choice(np.array([0, 1, 255], np.uint8), (12, 9 + number), p=[0.5, 0.4, 0.1])
        Image.fromarray(label).save(root / f"labels/val/{number}.png")
        image = rng.integers(0, 255, (*label.shape, 3), np.uint8)
        Image.fromarray(image).save(root / f"images/val/{number}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


@pytest.fixture
def masks(data, tmp_path, rng):
    """What `vice segment` leaves: a mask of each image, the table, and the record."""
    out, rows = tmp_path / "masks", ["image,mask,height,width"]
    for path in sorted((data / "images/val").iterdir()):
        with Image.open(path) as image:
            size = image.size[::-1]
        labels = rng.choice([0, 1, 2, 3, VOID], size)
        write_mask(labels, len(NAMES), out / MASKS / path.name, void=VOID)
        rows.append(f"{path},{path.name},{size[0]},{size[1]}")
    (out / SUMMARY).write_text("\n".join(rows) + "\n")
    (out / RECORD).write_text(json.dumps({"names": NAMES, "void": VOID}))
    return out


def reader(folder):
    def read(image: Path) -> np.ndarray:
        return np.asarray(Image.open(folder / MASKS / image.name)).astype(np.int64)

    return read


def pixel_by_pixel(data, masks):
    """Predicted and true class of every labelled pixel."""
    meant = {0: 0, 1: 1, 2: 1, 3: None, VOID: None}
    read, pairs = reader(masks), []
    for path in sorted((data / "labels/val").iterdir()):
        true = np.asarray(Image.open(path))
        pairs += [
            (meant[int(p)], int(t))
            for p, t in zip(read(path).ravel(), true.ravel(), strict=True)
            if t != 255
        ]
    return pairs


def test_scores_equal_pixel_by_pixel(data, masks):
    result, sums = score_masks(
        NamedMasks(NAMES, VOID, reader(masks), {}), open_dataset(data), "val", SAID
    )
    pairs, found = pixel_by_pixel(data, masks), result["masks"]
    assert found["accuracy"] == pytest.approx(np.mean([p == t for p, t in pairs]))
    ious = []
    for c in (0, 1):
        both = sum(p == t == c for p, t in pairs)
        ious.append(both / sum(c in pair for pair in pairs))
    assert found["iou_per_class"] == {
        "sky": pytest.approx(ious[0]), "house": pytest.approx(ious[1]), "road": None,
    }  # fmt: skip
    assert (found["miou"], found["classes_in_mean"]) == (pytest.approx(np.mean(ious)), 2)
    for name in ("miou", "accuracy"):
        low, high = found["interval"][name]
        assert low < found[name] < high and found["interval"]["images"] == 5
    assert sums.shape == (5, 9) and sums.sum(0)[6:].sum() == len(pairs)
    said = {each["name"]: each for each in result["concepts"]}
    assert [each["class"] for each in said.values()] == ["sky", "house", "house", None, None]
    assert sum(n for each in said.values() for n in each["pixels"].values()) == len(pairs)


def test_a_class_that_is_predicted_and_absent_counts_as_zero(data, masks):
    named = NamedMasks(NAMES, VOID, reader(masks), {})
    less = score_masks(named, open_dataset(data), "val", SAID)[0]["masks"]
    more = score_masks(named, open_dataset(data), "val", {**SAID, "people": "road"})[0]["masks"]
    assert more["iou_per_class"]["road"] == 0 and more["classes_in_mean"] == 3
    assert more["miou"] == pytest.approx(2 / 3 * less["miou"])
    assert more["accuracy"] == less["accuracy"]


def test_names_stand_for_classes_as_said():
    assert classes_of(NAMES, CLASSES).tolist() == [0, NONE, NONE, NONE]
    assert classes_of(NAMES, CLASSES, {"Sky": None, "wall": "road"}).tolist() == [-1, 2, -1, -1]
    with pytest.raises(UserError, match="no concept 'walls'; did you mean wall"):
        classes_of(NAMES, CLASSES, {"walls": "house"})
    for wrong in ("hous", 3):
        with pytest.raises(UserError, match="'wall': there is no class"):
            classes_of(NAMES, CLASSES, {"wall": wrong})
    with pytest.raises(UserError, match="no concept stands for a class"):
        classes_of(["a", "b"], CLASSES)


@pytest.mark.parametrize("fault", ["size", "value", "void"])
def test_masks_that_are_of_something_else_are_refused(data, masks, fault):
    def read(image):
        mask = reader(masks)(image)
        return mask[1:] if fault == "size" else np.where(mask == 3, 4, mask)

    void = None if fault == "void" else VOID
    said = "label map" if fault == "size" else "none of 4 concepts"
    with pytest.raises(UserError, match=said):
        score_masks(NamedMasks(NAMES, void, read, {}), open_dataset(data), "val", SAID)


def call(*arguments):
    return Forked([ROOT / "tools/score_masks.py", *arguments], cwd=Path("/")).wait()


def test_from_the_command_line(data, masks, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps(SAID))
    out = tmp_path / "out"
    arguments = (masks, "--dataset", data, "--names", tmp_path / "names.json", "--out", out)
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "results.json").read_text())
    expected = score_masks(
        NamedMasks(NAMES, VOID, reader(masks), {}), open_dataset(data), "val", SAID
    )[0]
    assert found["masks"] == json.loads(json.dumps(expected["masks"]))
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith(f"masks: mIoU / accuracy in %: {100 * found['masks']['miou']:.2f} [")
    assert "3 of 4 concepts stand for 2 of 3 classes; 5 images" in last
    # On another machine the images lie elsewhere.
    table = (masks / SUMMARY).read_text()
    (masks / SUMMARY).write_text(table.replace(str(data), "/elsewhere"))
    assert call(*arguments).stdout == done.stdout
    (masks / SUMMARY).write_text("\n".join(table.splitlines()[:-1]) + "\n")
    done = call(*arguments)
    assert done.returncode == 2 and "no mask of" in done.stderr
    assert "4.png; run vice segment over the images" in done.stderr
