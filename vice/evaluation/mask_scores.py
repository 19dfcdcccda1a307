"""Masks that stand in files, under names that a person gave, scored against labels.

Names are matched with classes by their meaning, by whoever scores: nothing is matched by counts, so
that a wrong name is an error as a wrong mask is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vice.datasets.labelled_set import ImageLabelPair, LabelledSet, list_checksum
from vice.errors import UserError
from vice.evaluation.image_sums import share, sum_intervals
from vice.labels import IGNORE
from vice.names import printable
from vice.nearest import did_you_mean
from vice.runtime.progress import progress
from vice.runtime.provenance import digest_files, versions
from vice.scoring import CountTable

#: Class of a concept that stands for none: its pixels count as missed.
NONE = -1
#: Name of the sums in ``per_image.npz``.
MASK_SUMS = "masks"


def classes_of(
    names: Sequence[str], classes: Sequence[str], said: Mapping[str, str | None] | None = None
) -> np.ndarray:
    """The class that each concept stands for.

    Args:
        names: Of the concepts, K of them.
        classes: Of the data set.
        said: Name of a concept to that of its class, or None for no class. A concept that is not
            in it stands for the class of the same name, upper and lower case alike, if there is
            one.

    Returns:
        int64 (K,): index of the class, or `NONE`.

    Raises:
        UserError: ``said`` names a concept or a class that is not there, or no concept stands for
            any class.
    """
    said = said or {}
    for name, title in said.items():
        if name not in names:
            raise UserError(f"there is no concept {name!r}{_near(name, names)}")
        if title is not None and title not in classes:
            raise UserError(f"{name!r}: there is no class {title!r}{_near(title, classes)}")
    folded = {title.casefold(): title for title in classes}
    chosen = [said[name] if name in said else folded.get(name.casefold()) for name in names]
    if not any(title is not None for title in chosen):
        raise UserError(
            "no concept stands for a class: say which does (--names, a JSON file of concept to "
            "class or null)"
        )
    return np.array([NONE if c is None else list(classes).index(c) for c in chosen], np.int64)


def _near(name: str, among: Sequence[str]) -> str:
    return did_you_mean(str(name), among, f"there are {', '.join(among)}")


def mask_sums(table: CountTable, classes: np.ndarray) -> np.ndarray:
    """What an image adds to the scores: hits, predicted and true pixels of each class.

    Args:
        table: Concepts by classes, (K, C).
        classes: int64 (K,), see `classes_of`.

    Returns:
        float64 (3 * C,); pixels of concepts without a class are predicted nowhere.
    """
    counts = table.counts.numpy()
    confusion = np.zeros((table.num_classes, table.num_classes))
    named = classes != NONE
    np.add.at(confusion, classes[named], counts[named])
    return np.concatenate([np.diagonal(confusion), confusion.sum(1), counts.sum(0)]).astype(float)


def mask_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of sums over images.

    Args:
        sums: (R, 3 * C), each row summed over some images; see `mask_sums`.

    Returns:
        ``miou`` over the classes that are in the labels or predicted, and ``accuracy``, float64
        (R,), NaN where there is no labelled pixel.
    """
    iou = _ious(sums)
    occurs = ~np.isnan(iou)
    hits, _, true = np.split(sums, 3, 1)
    miou = share(np.where(occurs, iou, 0).sum(1), occurs.sum(1))
    return {"miou": miou, "accuracy": share(hits.sum(1), true.sum(1))}


def _ious(sums: np.ndarray) -> np.ndarray:
    hits, predicted, true = np.split(sums, 3, 1)
    return share(hits, predicted + true - hits)


@dataclass(frozen=True)
class NamedMasks:
    """Masks of the images of a split.

    Attributes:
        names: Of the concepts, by their value in the masks.
        void: A further value, of pixels of no concept; None where there is none.
        read: The mask of an image file, (H, W) integers.
        said: What the result says of where they come from.
    """

    names: Sequence[str]
    void: int | None
    read: Callable[[Path], np.ndarray]
    said: Mapping[str, Any]


def score_masks(
    masks: NamedMasks,
    data: LabelledSet,
    split: str = "val",
    said: Mapping[str, str | None] | None = None,
) -> tuple[dict[str, Any], np.ndarray]:
    """Scores masks of all labelled images of a split.

    Args:
        masks: The masks, each of the size of its image.
        data: Labels.
        split: Which of them.
        said: As in `classes_of`.

    Returns:
        What ``results.json`` holds: under ``"masks"`` ``miou``, ``accuracy``, ``classes_in_mean``,
        ``iou_per_class`` (None for a class that is neither in the labels nor predicted) and
        ``interval``; under ``"concepts"`` the class of each concept and how its labelled pixels are
        spread over the classes. And the sums of each image, float64 (N, 3 * C).

    Raises:
        UserError: No such split, a mask that is missing, of another size or of other values than
            its concepts', or what `classes_of` raises.
    """
    number = classes_of(masks.names, data.classes, said)
    # Pixels of no concept are counted as one more.
    classes = np.append(number, NONE)
    pairs = data.check(split)
    total, sums = CountTable(len(classes), len(data.classes)), []
    for pair in progress(pairs, len(pairs), f"scoring masks of {split}"):
        table = _count(pair, masks, data)
        total.merge(table)
        sums.append(mask_sums(table, classes))
    each = np.stack(sums)
    whole = each.sum(0)[None]
    ious = _ious(whole)[0]
    scores = {name: _number(values[0]) for name, values in mask_scores(whole).items()}
    result = {
        "kind": "masks",
        "unit": "share",
        "source": dict(masks.said),
        "classes": list(data.classes),
        "dataset": {
            "name": data.name,
            "root": str(data.root),
            "split": split,
            "images": len(pairs),
            "list_checksum": list_checksum(data.names(split)),
        },
        "concepts": _described(masks.names, number, total, data.classes),
        "masks": {
            **scores,
            "classes_in_mean": int((~np.isnan(ious)).sum()),
            "iou_per_class": dict(zip(data.classes, map(_number, ious), strict=True)),
            "interval": sum_intervals(each, mask_scores),
        },
        "content": {"score": {"label_files": digest_files([p.label for p in pairs if p.label])}},
        "versions": versions(),
    }
    return result, each


def _count(pair: ImageLabelPair, masks: NamedMasks, data: LabelledSet) -> CountTable:
    assert pair.label is not None
    mask, label = masks.read(pair.image), data.read_label(pair.label)
    image = printable(str(pair.image))
    if mask.shape != label.shape:
        raise UserError(
            f"{image}: its mask has {mask.shape[1]}x{mask.shape[0]} pixels, its label map "
            f"{label.shape[1]}x{label.shape[0]}"
        )
    count = len(masks.names)
    table = CountTable(count + 1, len(data.classes))
    of_none = np.zeros(mask.shape, bool) if masks.void is None else mask == masks.void
    if (((mask < 0) | (mask >= count)) & ~of_none)[label != IGNORE].any():
        raise UserError(f"{image}: its mask holds a value that is none of {count} concepts")
    mask = np.where(of_none, count, mask)
    table.update(torch.from_numpy(mask), torch.from_numpy(label))
    return table


def _described(
    names: Sequence[str], classes: np.ndarray, total: CountTable, titles: Sequence[str]
) -> list[dict[str, Any]]:
    """Each concept, and which classes its labelled pixels have, the most frequent first."""
    rows = []
    for name, number, counts in zip(
        [*names, None], [*classes.tolist(), NONE], total.counts.numpy(), strict=True
    ):
        order = [c for c in np.argsort(-counts, kind="stable") if counts[c]]
        rows.append({
            "name": name,
            "class": None if number == NONE else titles[number],
            "pixels": {titles[c]: int(counts[c]) for c in order},
        })  # fmt: skip
    return rows if total.counts[-1].any() else rows[:-1]


def mask_line(result: Mapping[str, Any]) -> str:
    """What a person reads of a result of `score_masks`."""
    from vice.evaluation.options import percent

    named = sum(each["class"] is not None for each in result["concepts"] if each["name"])
    count = sum(each["name"] is not None for each in result["concepts"])
    return (
        f"masks: mIoU / accuracy in %: {percent(result['masks'])}; {named} of {count} concepts "
        f"stand for {len({e['class'] for e in result['concepts']} - {None})} of "
        f"{len(result['classes'])} classes; {result['dataset']['images']} images"
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
