"""Looks at a folder of images and labels, and writes down what it found: `recognize`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from vice.datasets.described.class_tables import Row, find_table, read_table
from vice.datasets.described.coco_json import read_annotations
from vice.datasets.described.description import (
    APPLY,
    AS_STORED,
    IGNORED,
    REFUSE,
    SKIP,
    Description,
    Split,
)
from vice.datasets.described.known_layouts import known_layout
from vice.datasets.described.meanings import find_meanings
from vice.datasets.described.pairing import SPLIT_WORDS, WHOLE, Pairing, find_pairings, split_named
from vice.datasets.described.stored_values import read_palette, read_values
from vice.datasets.described.templates import find_files, listed_stems, names_some, walk
from vice.datasets.label_files import geometry
from vice.errors import UserError
from vice.images import SUFFIXES
from vice.runtime.progress import progress
from vice.runtime.regular_file import open_regular

THREADS = 8
#: Labels whose values are counted, of each split; more are looked at when they are scored.
MOST_READ = 2_000


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
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; check the path")
    names = walk(root)
    if not any(PurePosixPath(name).suffix.lower() in SUFFIXES for name in names):
        raise UserError(f"{root}: no images in this folder or below")
    given = table or find_table(root, names)
    # Own classes: folders are named like a release's, and hold something else.
    own = given is not None and given.stem.lower() != "objectinfo150"
    found = None if own else known_layout(root, names)
    if found is not None:
        return _counted(root, found, read_shares=False)
    annotations = _annotation_files(root, names)
    if annotations:
        return _counted(root, _from_annotations(root, names, annotations))
    return _from_maps(root, names, given)


def _from_maps(root: Path, names: Sequence[str], path: Path | None) -> Recognized:
    pairings, decisions = find_pairings(root, names)
    if not pairings:
        raise UserError(
            f"{root}: no labels that go with its images: labels are PNG, TIFF or BMP files of few "
            "values whose names hold that of their image, or annotations in COCO's format"
        )
    placed, divided = _divide(root, names, pairings)
    decisions += divided
    splits = {each.split: split for each, split in placed}
    files = {each.split: _label_files(root, split) for each, split in placed}
    rows: list[Row] = read_table(path) if path else []
    shown = "" if path is None else path.name
    by_color, why = _palettes(files, rows)
    decisions += why
    seen, colors, looked_at = _count_values(root, files, by_color, decisions)
    meanings = find_meanings(seen, rows, colors=colors, table=shown)
    decisions += [f"classes come from {shown}"] if path else []
    lonely = sum(each.without + each.spare for each, _ in placed)
    if lonely:
        decisions.append(
            f"{sum(each.without for each, _ in placed)} images without labels and "
            f"{sum(each.spare for each, _ in placed)} labels without an image are left out"
        )
    exif, why = _exif(root, splits)
    decisions += why
    description = Description(
        name=root.resolve().name,
        splits=splits,
        classes=tuple(meanings.classes),
        values=meanings.values,
        colors=colors,
        exif=exif,
        unpaired=SKIP if lonely else REFUSE,
        decisions=tuple(decisions + meanings.decisions),
    )
    shares: Counter[str] = Counter()
    for value, number in seen.items():
        shares[meanings.values[value]] += number
    total = sum(shares.values())
    return Recognized(
        description,
        {each.split: each.pairs for each, _ in placed},
        {name: number / total for name, number in shares.most_common()},
        looked_at,
    )


def _divide(
    root: Path, names: Sequence[str], pairings: Sequence[Pairing]
) -> tuple[list[tuple[Pairing, Split]], list[str]]:
    """Gives each pairing its place; a folder that lists divide is divided by them."""
    merged: dict[str, Pairing] = {}
    for each in pairings:
        if each.split in merged and each.pairs > merged[each.split].pairs:
            merged[each.split] = each
        merged.setdefault(each.split, each)
    left = [each for each in pairings if each not in merged.values()]
    notes = [f"{each.images} with {each.labels} ({each.pairs} pairs) is left out: another part is "
             f"taken for {each.split}" for each in left]  # fmt: skip
    if set(merged) != {WHOLE}:
        return [(each, Split(each.images, each.labels)) for each in merged.values()], notes
    whole = merged[WHOLE]
    stems = find_files(whole.labels, root)
    divided: list[tuple[Pairing, Split]] = []
    for name in names:
        path = PurePosixPath(name)
        split = SPLIT_WORDS.get(path.stem.lower())
        if path.suffix.lower() != ".txt" or split is None:
            continue
        try:
            listed = listed_stems(root / name, stems)
        except UserError as error:
            if names_some(root / name, stems):
                raise UserError(
                    f"{error}: correct this list, or rename it if it is none"
                ) from error
            notes.append(f"{name} is not used as a list: {error}")
            continue
        if listed and split not in [each.split for each, _ in divided]:
            part = replace(whole, split=split, pairs=len(listed), without=0, spare=0)
            divided.append((part, Split(whole.images, whole.labels, name)))
    if divided:
        listed_twice = Counter(
            stem for _, each in divided for stem in listed_stems(root / str(each.list), stems)
        )
        if twice := sum(number > 1 for number in listed_twice.values()):
            notes.append(f"{twice} images are in several of the lists")
        if left_out := len(stems) - len(listed_twice):
            notes.append(f"{left_out} images with labels are in none of the lists, and left out")
        lists = ", ".join(split.list or "" for _, split in divided)
        return divided, [*notes, f"splits are those that {lists} name"]
    notes.append(f"no folder or list names splits: all images are of one, {WHOLE!r}")
    return [(whole, Split(whole.images, whole.labels))], notes


def _label_files(root: Path, split: Split) -> list[Path]:
    labels = find_files(split.labels, root)
    images = find_files(split.images, root, frozenset(labels.values()))
    stems = set(labels) & set(images)
    if split.list is not None:
        stems &= set(listed_stems(root / split.list, images))
    return [labels[stem] for stem in sorted(stems)]


def _palettes(files: dict[str, list[Path]], rows: Sequence[Row]) -> tuple[bool, list[str]]:
    """Whether colors of palettes count, and not indices; and why."""
    known: dict[int, int] = {}
    for split in files.values():
        for file in split[:MOST_READ]:
            for index, color in read_palette(file).items():
                if known.setdefault(index, color) != color:
                    return True, ["palettes of the labels differ: their colors count, not indices"]
    colored = {row.color for row in rows}
    if known and rows and None not in colored and set(known.values()) <= colored:
        return True, ["the table names the colors of the palettes: these count, not indices"]
    return False, []


def _count_values(
    root: Path, files: dict[str, list[Path]], by_color: bool, notes: list[str]
) -> tuple[Counter[int], bool, int]:
    """Stored values and the number of their pixels; whether they are colors; files read."""
    chosen = []
    for split in files.values():
        picked = np.unique(np.linspace(0, len(split) - 1, min(len(split), MOST_READ)).astype(int))
        chosen += [split[number] for number in picked]

    def look(file: Path) -> tuple[np.ndarray, np.ndarray, bool]:
        values, colors = read_values(file, shown=by_color)
        return *np.unique(values, return_counts=True), colors

    gray: Counter[int] = Counter()
    color: Counter[int] = Counter()
    with ThreadPoolExecutor(THREADS) as pool:
        looks = progress(pool.map(look, chosen), len(chosen), f"reading labels of {root}")
        for values, counts, colors in looks:
            (color if colors else gray).update(
                dict(zip(values.tolist(), counts.tolist(), strict=True))
            )
    if color:
        # A color map of one color, black or gray, looks like gray values.
        for value, number in gray.items():
            color[value * 0x010101] += number
        if set(gray) - {0, 255}:
            notes.append("some labels hold gray alone and others colors: grays count as colors")
        return color, True, len(chosen)
    return gray, False, len(chosen)


def _exif(root: Path, splits: dict[str, Split]) -> tuple[str, list[str]]:
    """Whether labels lie over images as viewers show them, by sizes of those that are turned."""
    turned = stored = untold = 0
    for split in splits.values():
        labels = find_files(split.labels, root)
        images = find_files(split.images, root, frozenset(labels.values()))
        for stem in sorted(set(labels) & set(images)):
            of_image = geometry(images[stem])
            if of_image.upright == of_image.size:
                untold += of_image.orientation != 1
                continue
            size = geometry(labels[stem]).size
            turned += size == of_image.upright
            stored += size == of_image.size
    if stored > turned:
        return AS_STORED, [
            f"{stored} labels have the size of their image as stored, not as EXIF turns it: EXIF "
            "orientations are ignored"
        ]
    if untold:
        return APPLY, [
            f"{untold} images are turned by EXIF in a way that sizes do not show: it is applied to "
            "them, and to labels only by their own"
        ]
    if turned:
        return APPLY, [f"{turned} labels have the size of their image as EXIF turns it"]
    return APPLY, []


def _annotation_files(root: Path, names: Sequence[str]) -> list[str]:
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


def _from_annotations(root: Path, names: Sequence[str], files: Sequence[str]) -> Description:
    images = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    splits: dict[str, Split] = {}
    decisions: list[str] = []
    categories: dict[int, str] = {}
    for file in files:
        notes = read_annotations(root / file)
        stems = [str(PurePosixPath(name).with_suffix("")) for name in images]
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


def _counted(root: Path, description: Description, *, read_shares: bool = True) -> Recognized:
    """A description whose splits are counted, and whose labels are read if there is need to."""
    from vice.datasets.described.described_set import DescribedSet

    data = DescribedSet(root, description.classes, name=description.name, description=description)
    pairs = {name: data.pairs(name) for name in data.splits()}
    seen: Counter[str] = Counter()
    looked_at = 0
    for split in pairs.values() if read_shares else ():
        for pair in split[:MOST_READ]:
            assert pair.label is not None
            values, counts = np.unique(data.read_classes(pair.label), return_counts=True)
            looked_at += 1
            for value, number in zip(values.tolist(), counts.tolist(), strict=True):
                known = value < len(data.classes)
                seen[data.classes[value] if known else IGNORED] += number
    total = sum(seen.values()) or 1
    return Recognized(
        description,
        {name: len(found) for name, found in pairs.items()},
        {name: number / total for name, number in seen.most_common()},
        looked_at,
    )
