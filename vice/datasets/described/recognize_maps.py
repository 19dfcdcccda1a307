"""Describes a folder whose labels are files of their own: where they lie, what they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np

from vice.datasets.described.class_tables import Row, read_table
from vice.datasets.described.description import REFUSE, SKIP, Description, Split
from vice.datasets.described.file_units import (
    SPLIT_WORDS,
    WHOLE,
    all_units,
    named_as_labels,
)
from vice.datasets.described.label_likeness import LOOKS, why_no_labels
from vice.datasets.described.meanings import find_meanings
from vice.datasets.described.pair_sizes import check_sizes, decide_exif, look_at_pairs
from vice.datasets.described.pairing import find_pairings
from vice.datasets.described.placing import Placed, common_folder
from vice.datasets.described.stem_lists import (
    LIST_SUFFIXES,
    listed_stems,
    names_of,
    names_some,
)
from vice.datasets.described.stored_values import read_palette, read_values
from vice.datasets.described.templates import find_files, stored_path
from vice.datasets.label_files import geometry
from vice.datasets.labelled_set import ImageLabelPair
from vice.errors import UserError
from vice.runtime.progress import progress

THREADS = 8
#: Labels whose values are counted, of each split; more are looked at when they are scored.
MOST_READ = 2_000


class _Files:
    """Images and labels of a split that go together, and how many do not.

    Attributes:
        pairs: By stem.
        without: How many images have no labels.
        spare: How many labels have no image.
    """

    def __init__(self, root: Path, split: Split) -> None:
        labels = find_files(split.labels, root)
        images = find_files(split.images, root, frozenset(labels.values()))
        both = labels.keys() & images.keys()
        if split.list is not None:
            both &= set(listed_stems(root / split.list, names_of(root, [images, labels])))
        self.pairs = [ImageLabelPair(images[stem], labels[stem]) for stem in sorted(both)]
        lonely = split.list is None
        self.without = len(images.keys() - labels.keys()) * lonely
        self.spare = len(labels.keys() - images.keys()) * lonely

    @property
    def labels(self) -> list[Path]:
        """Files of labels."""
        return [pair.label for pair in self.pairs if pair.label is not None]


def describe_maps(
    root: Path, names: Sequence[str], path: Path | None
) -> tuple[Description, dict[str, float], int]:
    """Finds out where images and labels lie and what stored values mean.

    Args:
        root: The folder.
        names: Files below it, with ``/``.
        path: A table of classes; None for none.

    Returns:
        The description; class, or ``"ignore"``, to its share of the pixels that were looked at;
        and how many labels were read.

    Raises:
        UserError: No labels, or values that nothing gives a meaning; says what to do.
    """
    placed, decisions = find_pairings(root, names)
    if not placed:
        raise UserError(
            f"{root}: no labels that go with its images: labels are PNG, TIFF or BMP files of few "
            "values whose names hold that of their image, or annotations in COCO's format"
            + _passed_over(root, names)
        )
    splits, notes = _divide(root, names, placed)
    decisions += notes
    files = {name: _Files(root, split) for name, split in splits.items()}
    labels = {name: each.labels for name, each in files.items()}
    rows: list[Row] = read_table(path) if path else []
    shown = "" if path is None else path.name
    by_color, why = _palettes(labels, rows)
    decisions += why
    seen, colors, looked_at = _count_values(root, labels, by_color, decisions)
    meanings = find_meanings(seen, rows, colors=colors, table=shown)
    decisions += [f"classes come from {shown}"] if path else []
    without = sum(each.without for each in files.values())
    spare = sum(each.spare for each in files.values())
    if without or spare:
        decisions.append(
            f"{without} images without labels and {spare} labels without an image are left out"
        )
    pairs = list({pair.image: pair for each in files.values() for pair in each.pairs}.values())
    looks = look_at_pairs(pairs, geometry, f"sizes in {root}")
    exif, why = decide_exif(looks)
    check_sizes(looks, exif)
    description = Description(
        name=root.resolve().name,
        splits=splits,
        classes=tuple(meanings.classes),
        values=meanings.values,
        colors=colors,
        exif=exif,
        unpaired=SKIP if without or spare else REFUSE,
        decisions=tuple(decisions + why + meanings.decisions),
    )
    shares: Counter[str] = Counter()
    for value, number in seen.items():
        shares[meanings.values[value]] += number
    total = sum(shares.values())
    return description, {name: n / total for name, n in shares.most_common()}, looked_at


def _passed_over(root: Path, names: Sequence[str]) -> str:
    """Why files that may be meant as labels are not taken for some, for the end of a message."""
    units = all_units(names)
    above = common_folder([unit.folder for unit in units]) if units else ""
    for named in (True, False):
        for unit in units:
            files = [name for name in unit.names() if named_as_labels(name[len(above) :]) == named]
            if not files:
                continue
            picked = np.unique(np.linspace(0, len(files) - 1, LOOKS).astype(int))
            looked = [stored_path(root, files[number]) for number in picked]
            # Without such a name it may be a photograph, of which nothing is wrong.
            reasons = [why_no_labels(file, photographs=named) for file in looked]
            if all(reasons):
                return f"; of {len(files)} files that may be meant, {reasons[0]}"
    return ""


def _divide(
    root: Path, names: Sequence[str], placed: Sequence[Placed]
) -> tuple[dict[str, Split], list[str]]:
    """The place of each split; a folder that lists divide is divided by them."""
    pairs = {each: len(_Files(root, Split(each.images, each.labels)).pairs) for each in placed}
    merged: dict[str, Placed] = {}
    for each in placed:
        if each.split not in merged or pairs[each] > pairs[merged[each.split]]:
            merged[each.split] = each
    left = [each for each in placed if each not in merged.values()]
    notes = [
        f"{each.images} with {each.labels} ({pairs[each]} pairs) is left out: another part is "
        f"taken for {each.split}"
        for each in left
    ]
    splits = {name: Split(each.images, each.labels) for name, each in merged.items()}
    if set(merged) != {WHOLE}:
        return splits, notes
    divided, why = _by_lists(root, names, splits[WHOLE])
    notes += why
    if divided:
        return divided, notes
    return splits, [*notes, f"no folder or list names splits: all images are of one, {WHOLE!r}"]


def _by_lists(root: Path, names: Sequence[str], whole: Split) -> tuple[dict[str, Split], list[str]]:
    """The splits that lists name; none without any."""
    labels = find_files(whole.labels, root)
    images = find_files(whole.images, root, frozenset(labels.values()))
    known = names_of(root, [images, labels])
    stems = labels.keys() & images.keys()
    divided: dict[str, Split] = {}
    notes: list[str] = []
    times: Counter[str] = Counter()
    for name in names:
        path = PurePosixPath(name)
        split = SPLIT_WORDS.get(path.stem.lower())
        if path.suffix.lower() not in LIST_SUFFIXES or split is None:
            continue
        try:
            listed = listed_stems(root / name, known)
        except UserError as error:
            if names_some(root / name, known):
                raise UserError(
                    f"{error}: correct this list, or rename it if it is none"
                ) from error
            notes.append(f"{name} is not used as a list: {error}")
            continue
        if split in divided:
            notes.append(f"{name} is left out: {divided[split].list} is a list of the same split")
            continue
        divided[split] = Split(whole.images, whole.labels, name)
        times.update(listed)
    if not divided:
        return {}, notes
    if twice := sum(number > 1 for number in times.values()):
        notes.append(f"{twice} images are in several of the lists")
    if left_out := len(stems - times.keys()):
        notes.append(f"{left_out} images with labels are in none of the lists, and left out")
    lists = ", ".join(split.list or "" for split in divided.values())
    return divided, [*notes, f"splits are those that {lists} name"]


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
