"""Whether a file holds labels or a photograph, by a look at its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vice.datasets.described.stored_values import read_values
from vice.errors import UserError

#: Files of a group that are looked at.
LOOKS = 5
#: Labels have few values, most of them beside their like; noise of a camera has neither.
MOST_VALUES, LEAST_ALIKE = 512, 0.7
_LOSSY = (".jpg", ".jpeg")


def holds_labels(files: Sequence[Path]) -> bool:
    """Whether a group of files are labels: most of those that are looked at are."""
    return share_of_labels(files) > 0.5


def share_of_labels(files: Sequence[Path]) -> float:
    """How many of a group of files look like labels, in [0, 1]; some of them are looked at.

    Those that cannot be read are left to whoever reads them, and say what is wrong with them.
    """
    chosen = [files[n] for n in np.unique(np.linspace(0, len(files) - 1, LOOKS).astype(int))]
    votes = [vote for vote in map(_one, chosen) if vote is not None]
    return sum(votes) / len(votes) if votes else 0.0


def why_no_labels(file: Path, *, photographs: bool) -> str:
    """Why a file is not taken for labels, with its name; empty where it is, or may be.

    Args:
        file: One that can be an image or labels by its suffix.
        photographs: Whether it is said, too, that it looks like a photograph.
    """
    if file.suffix.lower() in _LOSSY and not photographs:
        return ""
    try:
        values, _ = read_values(file)
    except UserError as error:
        return str(error)
    number = len(np.unique(values))
    if _one(file) is not False or not photographs:
        return ""
    if number > MOST_VALUES:
        return f"{file}: holds {number} different values, more than labels have ({MOST_VALUES})"
    return f"{file}: few of its pixels are like those beside them, as in a photograph"


def _one(file: Path) -> bool | None:
    """Whether it looks like labels; None where it cannot be read as some."""
    if file.suffix.lower() in _LOSSY:
        return False
    try:
        values, _ = read_values(file)
    except UserError:
        return None
    if min(values.shape) < 2:
        return True
    alike = np.mean([(values[:, 1:] == values[:, :-1]).mean(), (values[1:] == values[:-1]).mean()])
    return bool(len(np.unique(values)) <= MOST_VALUES and alike >= LEAST_ALIKE)
