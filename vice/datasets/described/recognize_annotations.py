"""Describes a folder whose labels are annotations in COCO's format."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path, PurePosixPath

from vice.datasets.described.coco_json import read_annotations
from vice.datasets.described.description import SKIP, Description, Split
from vice.datasets.described.file_units import WHOLE, split_named
from vice.datasets.described.templates import composed
from vice.errors import UserError
from vice.images import SUFFIXES
from vice.runtime.regular_file import open_regular


def annotation_files(root: Path, names: Sequence[str]) -> list[str]:
    """Files in COCO's format, those that draw objects first."""
    found = []
    for name in names:
        if not name.lower().endswith(".json"):
            continue
        try:
            with open_regular(root / name) as file:
                plain = json.load(file)
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(plain, dict) and {"images", "annotations", "categories"} <= set(plain):
            found.append(name)
    # Several of one split: that with the most shapes is what draws objects.
    return sorted(found, key=lambda name: ("instances" not in name, -_shapes(root / name)))


def _shapes(path: Path) -> int:
    try:
        notes = read_annotations(path)
    except UserError:
        return 0
    return sum(bool(each.get("segmentation")) for parts in notes.shapes.values() for each in parts)


def describe_annotations(root: Path, names: Sequence[str], files: Sequence[str]) -> Description:
    """Finds out which images annotations are of.

    Args:
        root: The folder.
        names: Files below it, with ``/``.
        files: Those of them that hold annotations.

    Raises:
        UserError: They are of none of the images, or contradict each other.
    """
    images = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    splits: dict[str, Split] = {}
    decisions: list[str] = []
    categories: dict[int, str] = {}
    for file in files:
        notes = read_annotations(root / file)
        stems = [composed(str(PurePosixPath(name).with_suffix(""))) for name in images]
        folders = Counter(
            stem[: -len(known)].rstrip("/")
            for stem in stems
            for known in (_tail(stem, notes.images),)
            if known
        )
        if not folders:
            decisions.append(f"{file} is of images that are not here, and is left out")
            continue
        named = split_named(file)
        # Equal names: of folders that hold as many, the one of the split that the file names.
        folder = max(folders, key=lambda each: (folders[each], split_named(each) == named))
        split = named or split_named(folder) or WHOLE
        if folders[folder] < len(notes.images):
            decisions.append(
                f"{len(notes.images) - folders[folder]} of {len(notes.images)} images of {file} "
                f"do not lie in {folder or 'this folder'}, and are left out"
            )
        if split in splits:
            decisions.append(f"{file} is left out: {splits[split].labels} is of the same split")
            continue
        splits[split] = Split(f"{folder}/{{stem}}.*" if folder else "{stem}.*", file)
        if notes.crowds:
            decisions.append(f"pixels of {notes.crowds} crowds in {file} are ignored")
        for key, name in notes.categories.items():
            if categories.setdefault(key, name) != name:
                raise UserError(
                    f"{root / file}: category {key} is {name!r}, and {categories[key]!r} elsewhere"
                )
    if not splits:
        raise UserError(f"{root}: {files[0]} names none of the images here")
    background = "background"
    classes = list(dict.fromkeys([background, *categories.values()]))
    if len(set(categories.values())) < len(categories):
        decisions.append("categories of one name are one class")
    decisions.append(
        f"pixels without an annotation are of a class {background!r}; write `unlabelled: ignore` "
        "and leave the class out if they are no class"
    )
    decisions.append("where annotations overlap, the smallest is in front")
    return Description(
        name=root.resolve().name,
        splits=splits,
        classes=tuple(classes),
        values=dict(categories),
        unpaired=SKIP,
        unlabelled=background,
        decisions=tuple(decisions),
    )


def _tail(stem: str, known: Container[str]) -> str:
    """The longest end of a path, in whole names, that is known; empty if none is."""
    parts = stem.split("/")
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end in known), "")
