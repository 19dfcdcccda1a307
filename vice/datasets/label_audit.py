"""Looks at the values of a split's label maps for damage that every single value hides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vice.datasets.label_palettes import check_palettes
from vice.datasets.split_files import DESCRIBE
from vice.errors import UserError
from vice.labels import IGNORE
from vice.runtime.progress import progress

#: Label maps of a split that are read before any work; more are read only to find a second class.
MOST_READ = 2_000
THREADS = 8
#: Share of all borders that run over a pixel in between. Hand-made label maps of five data sets
#: have at most 0.03; after bilinear or bicubic resizing it is 0.25 to 0.65, in JPEG over 0.14.
MOST_BETWEEN = 0.1
LEAST_BETWEEN = 16
#: Chance under which values that share a divisor are no coincidence.
_UNLIKELY = 1e-3


@dataclass(frozen=True)
class Look:
    """What one label map holds.

    Attributes:
        values: Its values, sorted.
        between: Pixels whose value lies strictly between those of their two neighbors, along rows
            and columns; neighbors to be ignored do not count.
        borders: Neighboring pixels of different values.
    """

    values: tuple[int, ...]
    between: int
    borders: int


def look_at(labels: np.ndarray) -> Look:
    """Counts what `audit` judges.

    Args:
        labels: uint8 (H, W).
    """
    between = borders = 0
    for lines in (labels, labels.T):
        first, middle, last = lines[:, :-2], lines[:, 1:-1], lines[:, 2:]
        # Ignore index: a border of 255 is no class; values between one and 255 are out of range.
        rising = (first < middle) & (middle < last) & (last != IGNORE)
        falling = (first > middle) & (middle > last) & (first != IGNORE)
        between += int((rising | falling).sum())
        borders += int((lines[:, 1:] != lines[:, :-1]).sum())
    values = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    return Look(tuple(values.tolist()), between, borders)


def audit(
    files: Sequence[Path],
    read: Callable[[Path], np.ndarray],
    classes: Sequence[str],
    split: str,
    *,
    indices: bool = True,
) -> int:
    """Makes sure that the label maps of a split can be what they are taken for.

    Args:
        files: Label maps.
        read: Gives class indices, uint8 (H, W), 255 = ignore.
        classes: Names of the classes.
        split: Data set and split, for messages.
        indices: Whether files hold class indices. False, for the maps of a published release,
            reads only as many as it takes to meet two classes.

    Returns:
        How many label maps were read.

    Raises:
        UserError: Names the split or the file, what is wrong and the remedy: fewer than two
            classes, files of two codings, values that were scaled or interpolated, or what
            ``read`` raises.
    """
    first, rest = _chosen(files) if indices else ([], list(files))
    looks: list[Look] = []
    with ThreadPoolExecutor(THREADS) as pool:
        looked_at = pool.map(lambda file: look_at(read(file)), first)
        for file, look in zip(
            first, progress(looked_at, len(first), f"reading {split}"), strict=True
        ):
            _check_between(file, look)
            looks.append(look)
    if indices:
        _check_codings(first, looks, len(classes))
        check_palettes(first, [look.values for look in looks])
    seen = {value for look in looks for value in look.values}
    counted = len(looks)
    # Early exit: only a split that seems to have one class is read to its end.
    for file in rest:
        if len(seen - {IGNORE}) >= 2:
            break
        seen.update(np.unique(read(file)).tolist())
        counted += 1
    _check_classes(files, seen, classes, split)
    if indices:
        _check_divisor(seen, classes, split)
    return counted


def _chosen(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """At most ``MOST_READ`` files, evenly spread, and the others."""
    if len(files) <= MOST_READ:
        return list(files), []
    kept = set(np.linspace(0, len(files) - 1, MOST_READ).astype(int).tolist())
    return [files[i] for i in sorted(kept)], [f for i, f in enumerate(files) if i not in kept]


def _check_between(file: Path, look: Look) -> None:
    if look.between >= LEAST_BETWEEN and look.between > MOST_BETWEEN * look.borders:
        raise UserError(
            f"{file}: {100 * look.between / look.borders:.0f} % of its borders run over values "
            "between those of the two sides, as after resizing with interpolation or a lossy "
            "format: make it again from its source, resized to the nearest pixel only"
        )


def _check_codings(files: Sequence[Path], looks: Sequence[Look], num_classes: int) -> None:
    """Refuses two classes that are {0, 255} in some files and {0, 1} in others."""
    if num_classes != 2:
        return
    masks = [f for f, look in zip(files, looks, strict=True) if look.values == (0, IGNORE)]
    plain = [look for look in looks if 1 in look.values]
    if masks and plain and not any(IGNORE in look.values for look in plain):
        raise UserError(
            f"{masks[0]}: holds 0 and 255 where others of the split hold 0 and 1, and 255 means "
            "ignore: write 1 in place of 255 where it is meant as a class"
        )


def _check_classes(
    files: Sequence[Path], seen: set[int], classes: Sequence[str], split: str
) -> None:
    present = sorted(seen - {IGNORE})
    if len(present) >= 2 or len(classes) < 2:
        return
    holds = f"only class {present[0]} ({classes[present[0]]})" if present else "no class"
    more = (
        f" and {IGNORE}, which means ignore: if {IGNORE} is meant as a class, write its index there"
        if IGNORE in seen
        else ": write the index of its class into each pixel"
    )
    raise UserError(
        f"{split}: its {len(files)} label maps ({files[0]} and so on) hold {holds} of the "
        f"{len(classes)} in classes.txt{more}, or name a split in which two classes occur"
    )


def _check_divisor(seen: set[int], classes: Sequence[str], split: str) -> None:
    present = sorted(seen - {IGNORE, 0})
    divisor = math.gcd(*present) if present else 1
    if divisor > 1 and divisor ** -float(len(present)) < _UNLIKELY:
        raise UserError(
            f"{split}: all values of its label maps are multiples of {divisor} (0, {present[0]} to "
            f"{present[-1]}): if they are class indices that were scaled, divide them by {divisor}"
        )


def out_of_range(path: str | Path, labels: np.ndarray, name: str, num_classes: int) -> UserError:
    """What to say of a label map that holds a value which is no class.

    Args:
        path: The file.
        labels: uint8 (H, W).
        name: Of the data set.
        num_classes: Number of its classes.
    """
    values = np.unique(labels)
    values = values[values != IGNORE]
    wrong, most = int(values[values >= num_classes][0]), int(values[-1])
    divisor = int(np.gcd.reduce(values)) if most else 1
    if most == num_classes:
        hint = (
            "; if the values count from 1, subtract 1"
            if values[0]
            else f"; if 0 means unlabelled, write {IGNORE} there and subtract 1 from the others"
        )
    elif divisor > 1 and len(values) > 1:
        hint = (
            f"; all values are multiples of {divisor}: if they were scaled, divide by it; if not, "
            "classes.txt must name every value"
        )
    else:
        hint = "; classes.txt must name every value, and grey levels or colors are no indices"
    return UserError(
        f"{path}: class index {wrong}, but {name} has only {num_classes} classes "
        f"(0..{num_classes - 1}; {IGNORE} means ignore){hint}; or {DESCRIBE}"
    )
