"""What the label maps of a prepared split hold, all of them read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vice.datasets.archives import in_threads
from vice.datasets.labelled_set import LabelledSet
from vice.datasets.split_files import name_some
from vice.errors import UserError
from vice.labels import IGNORE


@dataclass(frozen=True)
class LabelCounts:
    """Counts of one split.

    Attributes:
        title: Data set and split.
        maps: Label maps.
        ignoring: Stems of those that hold pixels to be ignored.
        resized: Those of another size than their image.
        classes: How many classes occur.
        of: How many there are.
    """

    title: str
    maps: int
    ignoring: frozenset[str]
    resized: int
    classes: int
    of: int

    def line(self) -> str:
        """All of it as one line for the user."""
        return (
            f"{self.title}: {self.maps} images and label maps, {self.classes} of {self.of} "
            f"classes; {len(self.ignoring)} with pixels to be ignored, {self.resized} of another "
            "size than their image"
        )


def count_labels(data: LabelledSet, split: str, threads: int) -> LabelCounts:
    """Reads all label maps of a split of a release, and what they must lie over.

    Args:
        data: The data set, of which every class occurs wherever there is training.
        split: The split.
        threads: How many files are read at a time.

    Returns:
        The counts.

    Raises:
        UserError: A file is missing or wrong; or, of a split to train on, a class is in none: then
            the values are not those of the release.
    """
    pairs, title = data.pairs(split), f"{data.name} {split}"
    resized = data.count_resized(pairs, f"checking {title}")
    files = [pair.label for pair in pairs if pair.label is not None]
    ignoring, seen = _read(data, files, title, threads)
    absent = [name for index, name in enumerate(data.classes) if not seen[index]]
    if absent and split.startswith("train"):
        raise UserError(
            f"{files[0].parent}: no pixel of {name_some(absent)} in the {len(files)} label maps of "
            f"{split}, and the release has all {len(data.classes)} classes there: its values were "
            "changed; unpack the official archive again"
        )
    present = len(data.classes) - len(absent)
    return LabelCounts(title, len(files), ignoring, resized, present, len(data.classes))


def _read(
    data: LabelledSet, files: Sequence[Path], title: str, threads: int
) -> tuple[frozenset[str], np.ndarray]:
    """Stems of the maps with pixels to be ignored, and whether each value occurs, bool (256,)."""

    def look(file: Path) -> np.ndarray:
        return np.bincount(data.read_label(file).ravel(), minlength=256) > 0

    looks = np.array(in_threads(look, files, f"reading {title}", threads))
    ignoring = [file.stem for file, look in zip(files, looks, strict=True) if look[IGNORE]]
    return frozenset(ignoring), np.logical_or.reduce(looks)
