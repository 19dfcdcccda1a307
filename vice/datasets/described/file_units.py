"""Files of a folder that are named alike: units, of which some are images and some labels."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vice.datasets.described.label_likeness import holds_labels
from vice.datasets.described.templates import STEM, composed, stored_path
from vice.images import SUFFIXES

#: What folders of splits are called, and the split that they are.
SPLIT_WORDS = {
    "train": "train", "training": "train", "tr": "train", "val": "val", "valid": "val",
    "validation": "val", "dev": "val", "eval": "val", "test": "test", "testing": "test",
    "trainval": "trainval",
}  # fmt: skip
#: The only split of a folder without such names.
WHOLE = "all"
_SAMPLE = 40
_SEPARATORS = "_-. "
#: What folders of labels are called, the likelier the earlier.
_LABEL_WORDS = ("labelids", "index", "label", "annot", "mask", "gt", "seg")
#: What folders and files are called that only show others.
RARELY = ("color", "colour", "instance", "vis", "overlay", "rgb", "preview", "thumb")


@dataclass(frozen=True)
class Unit:
    """Files of one folder and one suffix, by the middle of their names.

    Attributes:
        folder: Below the data set's, with ``/``.
        suffix: As it is written.
        before: What all names begin with, and is no part of the stem.
        after: What they end with, likewise.
        stems: The stems.
    """

    folder: str
    suffix: str
    before: str
    after: str
    stems: frozenset[str]

    def files(self, root: Path, most: int | None = None) -> list[Path]:
        """Its files, or the first of them."""
        return [stored_path(root, name) for name in self.names()[:most]]

    def names(self) -> list[str]:
        """Its files below the data set's folder, with ``/``, sorted."""
        above = f"{self.folder}/" if self.folder else ""
        stems = sorted(self.stems)
        return [f"{above}{self.before}{stem}{self.after}{self.suffix}" for stem in stems]

    @property
    def label_rank(self) -> tuple[int, int, str]:
        """Sorts units that could be the labels of the same images, the likeliest first."""
        text = f"{self.folder}/{self.before}{self.after}".lower()
        word = next((n for n, word in enumerate(_LABEL_WORDS) if word in text), len(_LABEL_WORDS))
        return sum(word in text for word in RARELY), word, text

    @property
    def shown(self) -> str:
        """Its template."""
        return template(self.folder, self.before, self.after + self.suffix)


def named_as_labels(path: str) -> bool:
    """Whether a word of a path says that labels lie there."""
    return any(word in path.lower() for word in _LABEL_WORDS)


def split_named(path: str) -> str | None:
    """The split that a path names in a word of its last part that does; None if none does."""
    for part in reversed(path.lower().split("/")):
        if part in SPLIT_WORDS:
            return SPLIT_WORDS[part]
        for word in re.findall(r"[a-z]+", part):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def template(folder: str, before: str, end: str) -> str:
    """Template of files of a folder; ``end`` has their suffix."""
    return f"{folder}/{before}{STEM}{end}" if folder else f"{before}{STEM}{end}"


def all_units(names: Iterable[str]) -> list[Unit]:
    """Files with the suffix of an image, of each folder and suffix."""
    grouped: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name in names:
        path = PurePosixPath(composed(name))
        if path.suffix.lower() in SUFFIXES:
            folder = "" if str(path.parent) == "." else str(path.parent)
            grouped[folder, path.suffix].add(path.stem)
    return [Unit(*key, "", "", frozenset(stems)) for key, stems in sorted(grouped.items())]


def labels_inside(root: Path, units: Sequence[Unit]) -> list[Unit]:
    """Labels that lie among images of the same suffix, told by what is added to their names."""
    found = []
    for unit in units:
        for (before, after), stems in _affixes(unit.stems, unit.stems).items():
            part = Unit(unit.folder, unit.suffix, before, after, frozenset(stems))
            whole = Unit(unit.folder, unit.suffix, "", "", frozenset(stems))
            # Of what names are added to, labels would be labels of labels.
            if (
                len(stems) * 4 >= len(unit.stems)
                and holds_labels(part.files(root))
                and not holds_labels(whole.files(root))
            ):
                found.append(part)
    return found


def _affixes(names: Iterable[str], stems: frozenset[str]) -> Mapping[tuple[str, str], set[str]]:
    """What is added to stems to get other names; the stems by what is added."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name in names:
        for cut in range(1, len(name)):
            if name[cut] in _SEPARATORS and name[:cut] in stems:
                found["", name[cut:]].add(name[:cut])
            if name[cut - 1] in _SEPARATORS and name[cut:] in stems:
                found[name[:cut], ""].add(name[cut:])
    return found


def without_labels(unit: Unit, labels: Sequence[Unit]) -> Unit:
    """A unit of images without the labels that lie among them."""
    taken = {
        f"{label.before}{stem}{label.after}"
        for label in labels
        if (label.folder, label.suffix) == (unit.folder, unit.suffix)
        for stem in label.stems
    }
    return Unit(unit.folder, unit.suffix, "", "", frozenset(unit.stems - taken))


def by_folder(units: Iterable[Unit]) -> list[Unit]:
    """Images of a folder, whatever their suffixes."""
    stems: dict[str, set[str]] = defaultdict(set)
    for unit in units:
        stems[unit.folder] |= unit.stems
    return [
        Unit(folder, ".*", "", "", frozenset(found)) for folder, found in stems.items() if found
    ]


def cut_to(label: Unit, images: Unit) -> Unit:
    """Labels by the stems of images, where something is added to all of their names."""
    if len(label.stems & images.stems) * 2 >= len(label.stems):
        return label
    sample = sorted(label.stems)[:_SAMPLE]
    votes: Counter[tuple[str, str]] = Counter()
    for name in sample:
        inner = [stem for stem in images.stems if stem in name]
        for stem in sorted(inner, key=len)[-1:]:
            before, _, after = name.partition(stem)
            votes[before, after] += 1
    if not votes:
        return label
    (before, after), _ = votes.most_common(1)[0]
    stems = {
        name[len(before) : len(name) - len(after) or None]
        for name in label.stems
        if name.startswith(before) and name.endswith(after)
    }
    return Unit(label.folder, label.suffix, before, after, frozenset(stems))
