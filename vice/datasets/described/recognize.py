"""Looks at a folder of images and labels, and writes down what it found: `recognize`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from vice.datasets.described.class_tables import find_table
from vice.datasets.described.described_set import DescribedSet
from vice.datasets.described.description import IGNORED, Description
from vice.datasets.described.known_layouts import known_layout
from vice.datasets.described.pair_sizes import check_sizes, look_at_pairs
from vice.datasets.described.recognize_annotations import annotation_files, describe_annotations
from vice.datasets.described.recognize_maps import MOST_READ, describe_maps
from vice.datasets.described.templates import PLACES, walk
from vice.datasets.labelled_set import ImageLabelPair
from vice.datasets.split_files import name_some
from vice.errors import UserError
from vice.images import SUFFIXES
from vice.nearest import near_path


@dataclass(frozen=True)
class Recognized:
    """A description, and what was counted for it.

    Attributes:
        description: The description.
        counts: Split to the number of its images with labels.
        shares: Class, or ``"ignore"``, to its share of the pixels that were looked at.
        looked_at: How many files of labels were read.
    """

    description: Description
    counts: dict[str, int]
    shares: dict[str, float]
    looked_at: int


def recognize(root: Path, table: Path | None = None) -> Recognized:
    """Finds out where images and labels lie and what stored values mean.

    Args:
        root: The folder.
        table: A table of classes elsewhere, see `vice.datasets.described.class_tables.read_table`.

    Returns:
        The description with a reason for each decision; nothing is written.

    Raises:
        UserError: No images, no labels, or values that nothing gives a meaning; says what to do.
    """
    # Path length: os.path has an answer for names too long for the disk, too; Path raises.
    if not os.path.isdir(root):
        raise UserError(f"{root}: no such folder{near_path(root, 'check the path')}")
    written: list[str] = []
    names = walk(root, written)
    said = f"not looked into, since ViCE has written it: {name_some(written)}" if written else ""
    try:
        found = _recognize(root, names, table)
    except UserError as error:
        raise UserError(f"{error} ({said})" if said else str(error)) from error
    if said:
        decisions = (*found.description.decisions, said)
        found = replace(found, description=replace(found.description, decisions=decisions))
    return found


def _recognize(root: Path, names: Sequence[str], table: Path | None) -> Recognized:
    if not any(PurePosixPath(name).suffix.lower() in SUFFIXES for name in names):
        raise UserError(f"{root}: no images in this folder or below")
    if strange := next((name for name in names if PLACES.search(name)), None):
        raise UserError(
            f"{root}: this folder cannot be described ({strange} holds a word that templates give "
            "another meaning): rename what is named"
        )
    given = table or find_table(root, names)
    # Own classes: folders are named like a release's, and hold something else.
    own = given is not None and given.stem.lower() != "objectinfo150"
    found = None if own else known_layout(root, names)
    if found is not None:
        _check_sizes(root, found)
        return _recognized(root, names, found, None)
    annotations = annotation_files(root, names)
    if annotations:
        found = describe_annotations(root, names, annotations)
        _check_sizes(root, found)
        return _recognized(root, names, found, _shares(root, found))
    found, shares, looked_at = describe_maps(root, names, given)
    return _recognized(root, names, found, (shares, looked_at))


def _recognized(
    root: Path,
    names: Sequence[str],
    description: Description,
    shares: tuple[dict[str, float], int] | None,
) -> Recognized:
    """A description whose pairs are counted."""
    data = _opened(root, description)
    if shares is not None and (notes := _left_out(root, data, names)):
        description = replace(description, decisions=(*description.decisions, *notes))
    counts = {name: len(data.pairs(name)) for name in data.splits()}
    return Recognized(description, counts, *(shares or ({}, 0)))


def _check_sizes(root: Path, description: Description) -> None:
    data = _opened(root, description)
    pairs = {pair.image: pair for split in data.splits() for pair in data.pairs(split)}
    looks = look_at_pairs(list(pairs.values()), data.label_geometry, f"sizes in {root}")
    check_sizes(looks, description.exif)


def _left_out(root: Path, data: DescribedSet, names: Sequence[str]) -> list[str]:
    """Files that could be images or labels, and are neither of any split."""
    used = {path for split in data.splits() for files in data.files(split) for path in files}
    pictures = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    others = [name for name in pictures if root / name not in used]
    if not others:
        return []
    return [
        f"{len(others)} of {len(pictures)} files that could be images or labels are neither of any "
        f"split, and left out: {name_some(others)}"
    ]


def _opened(root: Path, description: Description) -> DescribedSet:
    return DescribedSet(root, description.classes, name=description.name, description=description)


def _shares(root: Path, description: Description) -> tuple[dict[str, float], int]:
    """Shares of the classes in the pixels of labels that are read, and how many are."""
    data = _opened(root, description)
    chosen: list[ImageLabelPair] = []
    for split in data.splits():
        chosen += data.pairs(split)[:MOST_READ]
    seen: Counter[str] = Counter()
    for pair in chosen:
        assert pair.label is not None
        values, counts = np.unique(data.read_classes(pair.label), return_counts=True)
        for value, number in zip(values.tolist(), counts.tolist(), strict=True):
            seen[data.classes[value] if value < len(data.classes) else IGNORED] += number
    total = sum(seen.values()) or 1
    return {name: number / total for name, number in seen.most_common()}, len(chosen)
