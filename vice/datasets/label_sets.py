"""Label sets: what a stored pixel value means, as one readable table a set.

``tables/<name>.csv`` has a line for each stored value: the value, its name in the data set, and
index and name of the class it counts as; a value without a class is ignored. Label maps stay as
their authors published them, and the table is applied when one is read.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from vice.errors import UserError
from vice.labels import IGNORE
from vice.nearest import did_you_mean

TABLES = Path(__file__).parent / "tables"
_UNKNOWN = -1


@dataclass(frozen=True)
class LabelSet:
    """A set of classes and the stored values they are made of; get one with `label_set`.

    Attributes:
        name: Its name, for example ``"coco27"``.
        classes: Class names in index order.
        fine_names: Name of each stored value.
        lookup: int16 (256,), class index of each stored value, 255 to ignore, -1 where the table
            has no such value.
    """

    name: str
    classes: tuple[str, ...]
    fine_names: dict[int, str]
    lookup: np.ndarray = field(repr=False, compare=False)

    def apply(self, stored: np.ndarray, file: str | Path) -> np.ndarray:
        """Maps a stored label map to class indices.

        Args:
            stored: uint8 (H, W).
            file: Where it comes from, for the message.

        Returns:
            uint8 (H, W), class indices, 255 = ignore.

        Raises:
            UserError: A value that the table does not know.
        """
        mapped = self.lookup[stored]
        if mapped.min(initial=0) < 0:
            value = int(stored[mapped < 0][0])
            raise UserError(
                f"{file}: holds the value {value}, which label set {self.name} does not know: is "
                "it a label map of another data set, or one that was already converted?"
            )
        return mapped.astype(np.uint8)


def label_set_names() -> list[str]:
    """Names of all label sets."""
    return sorted(path.stem for path in TABLES.glob("*.csv"))


#: How the names of classes say which part of a label set they belong to.
#: Name of all classes where a part could be named.
ALL = "all"
_PARTS = ("things", "stuff")


def partition(classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The parts of a label set that are scored for themselves, too.

    Args:
        classes: Class names in index order.

    Returns:
        Name of each part to the indices of its classes: for the 27 classes of COCO-Stuff
        ``things12`` (0-11) and ``stuff15`` (12-26). Empty unless every name ends in ``-things`` or
        ``-stuff``, and both occur.
    """
    names = list(enumerate(classes))
    parts = [tuple(i for i, name in names if name.endswith(f"-{part}")) for part in _PARTS]
    if not all(parts) or sum(map(len, parts)) < len(classes):
        return {}
    return {f"{name}{len(part)}": part for name, part in zip(_PARTS, parts, strict=True)}


def keep_part(labels: np.ndarray, classes: Sequence[str], part: str) -> np.ndarray:
    """Ignores the labels of all classes that are not in a part.

    Args:
        labels: Integers, 0..C-1 or 255.
        classes: Class names in index order.
        part: A name of `partition`; ``"all"`` changes nothing.

    Raises:
        UserError: The classes have no such part.
    """
    if part == ALL:
        return labels
    parts = partition(classes)
    if part not in parts:
        known = f"known are {', '.join(parts)}" if parts else "these classes have no parts"
        raise UserError(f"label_part={part}: no such part of the classes; {known}, or {ALL}")
    return np.where(np.isin(labels, parts[part]), labels, labels.dtype.type(IGNORE))


@cache
def table_checksum(name: str) -> str:
    """SHA-256 of the table of a label set."""
    return hashlib.sha256((TABLES / f"{name}.csv").read_bytes()).hexdigest()


@cache
def label_set(name: str) -> LabelSet:
    """Reads the table of a label set.

    Args:
        name: ``"coco27"`` (COCO-Stuff's 182 fine classes as 27 coarse ones; value = COCO-Stuff id
            minus 1), ``"cityscapes27"`` and ``"cityscapes19"`` (label ids 0-33), ``"camvid11"``
            (SegNet's version, 0-11), ``"msrc21"``, ``"voc21"`` (PASCAL VOC, 0-20) or ``"ade150"``
            (ADE20K of the challenge, 0 to be ignored, 1-150).

    Returns:
        The label set.

    Raises:
        UserError: No such label set.
    """
    path = TABLES / f"{name}.csv"
    if not path.is_file():
        known = label_set_names()
        near = did_you_mean(name, known, f"choose {', '.join(known)}")
        raise UserError(f"label set {name!r} is unknown{near}")
    lookup = np.full(256, _UNKNOWN, np.int16)
    lookup[IGNORE] = IGNORE
    classes: dict[int, str] = {}
    fine_names: dict[int, str] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            stored = int(row["stored"])
            fine_names[stored] = row["name"]
            lookup[stored] = int(row["index"]) if row["index"] else IGNORE
            if row["index"]:
                classes[int(row["index"])] = row["class"]
    lookup.setflags(write=False)
    return LabelSet(name, tuple(classes[i] for i in range(len(classes))), fine_names, lookup)
