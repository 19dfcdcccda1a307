"""Annotations in COCO's format as people have them: drawn to the pixel, or refused in one line."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.label_kinds import SIZE, photo
from tests.hostile.case import Action, Expected, Make
from tests.hostile.damage import spoil

Rng = np.random.Generator
Content = dict[str, Any]
#: Categories: ids need not follow each other.
_KINDS = {3: "cat", 17: "hot dog", 90: "tree"}


def _rectangle(rng: Rng) -> tuple[int, int, int, int]:
    top, left = int(rng.integers(0, 18)), int(rng.integers(0, 24))
    return top, left, top + int(rng.integers(2, 7)), left + int(rng.integers(2, 9))


def _shape(box: tuple[int, int, int, int], rng: Rng) -> Any:
    """A rectangle as a polygon or as run lengths, which go column by column."""
    top, left, bottom, right = box
    if rng.random() < 0.5:
        return [[left, top, right, top, right, bottom, left, bottom]]
    mask = np.zeros(SIZE, np.uint8)
    mask[top:bottom, left:right] = 1
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(SIZE), "counts": ([0] if flat[0] else []) + lengths}


def _written(folder: Path, rng: Rng) -> tuple[Path, Content, dict[str, np.ndarray], Path]:
    """A folder, its annotations, the class names of each image, and where annotations lie."""
    root = folder / "data"
    above = str(rng.choice(["images/train", "train2017", "photos"]))
    (root / above).mkdir(parents=True)
    stem = str(rng.choice(["{:012d}", "bild é {}", "a.b.{}", "IMG ({})"]))
    accents, slashes, paths = rng.random(3) < 0.4
    content: Content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": key, "name": name} for key, name in _KINDS.items()],
    }
    truth: dict[str, np.ndarray] = {}
    for number in range(4):
        name = f"{stem.format(number)}.jpg"
        photo(rng).save(root / above / name)
        named = f"{above}/{name}" if paths else name
        named = named.replace("/", "\\") if slashes else named
        named = unicodedata.normalize("NFD", named) if accents else named
        content["images"].append(
            {"id": f"i{number}", "file_name": named, "height": SIZE[0], "width": SIZE[1]}
        )
        wanted = np.full(SIZE, "background", object)
        boxes = [_rectangle(rng) for _ in range(int(rng.integers(1, 4)))]
        area = [(b[2] - b[0]) * (b[3] - b[1]) for b in boxes]
        # Smaller ones are in front; of equal areas nobody knows which.
        for place in sorted(range(len(boxes)), key=lambda n: -area[n]):
            if area.count(area[place]) > 1:
                continue
            top, left, bottom, right = boxes[place]
            kind = int(rng.choice(list(_KINDS)))
            content["annotations"].append({
                "id": len(content["annotations"]), "image_id": f"i{number}", "category_id": kind,
                "segmentation": _shape(boxes[place], rng),
            })  # fmt: skip
            wanted[top:bottom, left:right] = _KINDS[kind]
        truth[f"{above}/{name}"] = wanted
    if not content["annotations"]:
        content["annotations"].append({"id": 0, "image_id": "i0", "category_id": 3,
                                       "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]})  # fmt: skip
        next(iter(truth.values()))[:4, :4] = "cat"
    split = "train" if "train" in above else ""
    path = root / f"instances_{split or 'all'}.json"
    return root, content, truth, path


def _right(truth: dict[str, np.ndarray], result: Any) -> str | None:
    data, found, said = result
    read = {name: labels for each in found.values() for name, labels in each.items()}
    if set(read) != set(truth):
        return f"{sorted(read)}, not {sorted(truth)}: {said}"
    names = np.array([*data.classes, *[""] * (256 - len(data.classes))], object)
    wrong = [name for name, labels in read.items() if (names[labels] != truth[name]).any()]
    return f"{wrong} are not what was drawn" if wrong else None


def _good(folder: Path, rng: Rng) -> Action:
    from tests.hostile.own_labels import described

    root, content, truth, path = _written(folder, rng)
    path.write_text(json.dumps(content))
    return Action(lambda: described(root), check=partial(_right, truth))


def _other_category(content: Content, rng: Rng) -> None:
    content["annotations"][-1]["category_id"] = 5


def _other_image(content: Content, rng: Rng) -> None:
    content["annotations"][-1]["image_id"] = "none"


def _other_size(content: Content, rng: Rng) -> None:
    content["images"][int(rng.integers(4))]["height"] += 1


def _without_key(content: Content, rng: Rng) -> None:
    part = str(rng.choice(["images", "annotations", "categories"]))
    entry = content[part][0]
    keys = [key for key in entry if key not in ("segmentation",)]
    if part == "annotations":
        keys.remove("id")
    del entry[keys[int(rng.integers(len(keys)))]]


def _no_shape(content: Content, rng: Rng) -> None:
    shapes: list[Any] = [[], [[1, 2]], {"size": [3, 3], "counts": [9]}, "x", 7, [[None] * 6],
                         {"size": list(SIZE), "counts": [5, -3]}, {"counts": "\ufffd"}]  # fmt: skip
    content["annotations"][-1]["segmentation"] = shapes[int(rng.integers(len(shapes)))]


def _twice(content: Content, rng: Rng) -> None:
    content["images"].append(dict(content["images"][0], id="more"))


_CHANGES: tuple[Callable[[Content, Rng], None], ...] = (
    _other_category, _other_image, _other_size, _without_key, _no_shape, _twice,
)  # fmt: skip


def _bad(change: Callable[[Content, Rng], None], folder: Path, rng: Rng) -> Action:
    from tests.hostile.own_labels import described

    root, content, _, path = _written(folder, rng)
    change(content, rng)
    path.write_text(json.dumps(content))
    return Action(lambda: described(root), names=(str(root),))


def _spoilt(folder: Path, rng: Rng) -> Action:
    from tests.hostile.own_labels import described

    root, content, _, path = _written(folder, rng)
    path.write_bytes(spoil(json.dumps(content).encode(), rng))
    return Action(lambda: described(root), names=(str(root),))


GENERATORS: dict[str, tuple[Expected, Make]] = {
    "good/coco": ("worked", _good),
    **{f"coco/{change.__name__.strip('_')}": ("refused", partial(_bad, change))
       for change in _CHANGES},
    "coco/spoilt": ("either", _spoilt),
}  # fmt: skip
