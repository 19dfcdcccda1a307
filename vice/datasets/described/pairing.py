"""Which files of a folder are images, which are their labels, and which split they are of."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vice.datasets.described.label_likeness import holds_labels
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
_RARELY = ("color", "colour", "instance", "vis", "overlay", "rgb", "preview", "thumb")


@dataclass(frozen=True)
class Pairing:
    """Images and labels that go together.

    Attributes:
        split: Name of the split.
        images: Template of the images, see `vice.datasets.described.templates`.
        labels: Template of the labels.
        pairs: How many images have labels.
        without: How many images have none.
        spare: How many labels have no image.
    """

    split: str
    images: str
    labels: str
    pairs: int
    without: int
    spare: int


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
        names = (f"{self.before}{stem}{self.after}{self.suffix}" for stem in sorted(self.stems))
        return [root / self.folder / name for name in list(names)[:most]]

    @property
    def label_rank(self) -> tuple[int, int, str]:
        """Sorts units that could be the labels of the same images, the likeliest first."""
        text = f"{self.folder}/{self.before}{self.after}".lower()
        word = next((n for n, word in enumerate(_LABEL_WORDS) if word in text), len(_LABEL_WORDS))
        return sum(word in text for word in _RARELY), word, text


def split_named(path: str) -> str | None:
    """The split that a path names in a word of its last part that does; None if none does."""
    for part in reversed(path.lower().split("/")):
        if part in SPLIT_WORDS:
            return SPLIT_WORDS[part]
        for word in re.findall(r"[a-z]+", part):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def find_pairings(root: Path, names: Sequence[str]) -> tuple[list[Pairing], list[str]]:
    """Finds images and their labels among the files of a folder.

    Args:
        root: The folder.
        names: Files below it, with ``/``, as `vice.datasets.described.templates.walk` lists them.

    Returns:
        The pairings, one for each split; and a line for each choice between several labels.
    """
    units = _units(names)
    # Mixed folders first: as a whole they may look like either.
    inside = _inside(root, units)
    units = [unit for unit in (_without(unit, inside) for unit in units) if unit.stems]
    labels = [unit for unit in units if holds_labels(unit.files(root))]
    images = _by_folder(unit for unit in units if unit not in labels)
    labels += inside
    chosen: dict[str, list[tuple[Unit, Unit]]] = defaultdict(list)
    for label in labels:
        best = _best_images(label, images)
        if best is not None:
            chosen[best[0].folder].append(best)
    pairs, notes = [], []
    for options in chosen.values():
        options = _by_suffixes(options)
        options.sort(
            key=lambda option: (
                option[1].label_rank[0],
                -len(option[0].stems & option[1].stems),
                option[1].label_rank,
            )
        )
        if len(options) > 1:
            others = ", ".join(_shown(option[1]) for option in options[1:])
            notes.append(f"labels are {_shown(options[0][1])}; others that would fit: {others}")
        pairs.append(options[0])
    used = {pair[0].folder for pair in pairs}
    for _, chosen_labels in pairs:
        of_split = split_named(chosen_labels.folder)
        rest = [
            unit.folder or "."
            for unit in images
            if unit.folder not in used
            and len(unit.stems & chosen_labels.stems) * 2 > len(chosen_labels.stems)
            and split_named(unit.folder) == of_split
        ]
        if rest:
            notes.append(f"other images that would fit {_shown(chosen_labels)}: {', '.join(rest)}")
    return _merge(pairs, root), notes


def _by_suffixes(options: list[tuple[Unit, Unit]]) -> list[tuple[Unit, Unit]]:
    """Labels of one folder whose files differ in their suffix alone, as one."""
    grouped: dict[tuple[str, str, str], list[tuple[Unit, Unit]]] = defaultdict(list)
    for option in options:
        label = option[1]
        grouped[label.folder, label.before, label.after].append(option)
    found = []
    for (folder, before, after), parts in grouped.items():
        if len(parts) == 1 or folder == parts[0][0].folder:
            found += parts
            continue
        stems = frozenset().union(*(label.stems for _, label in parts))
        found.append((parts[0][0], Unit(folder, ".*", before, after, stems)))
    return found


def _units(names: Iterable[str]) -> list[Unit]:
    grouped: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name in names:
        path = PurePosixPath(name)
        if path.suffix.lower() in SUFFIXES:
            folder = "" if str(path.parent) == "." else str(path.parent)
            grouped[folder, path.suffix].add(path.stem)
    return [Unit(*key, "", "", frozenset(stems)) for key, stems in sorted(grouped.items())]


def _inside(root: Path, units: Sequence[Unit]) -> list[Unit]:
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


def _without(unit: Unit, labels: Sequence[Unit]) -> Unit:
    """A unit of images without the labels that lie among them."""
    taken = {
        f"{label.before}{stem}{label.after}"
        for label in labels
        if (label.folder, label.suffix) == (unit.folder, unit.suffix)
        for stem in label.stems
    }
    return Unit(unit.folder, unit.suffix, "", "", frozenset(unit.stems - taken))


def _by_folder(units: Iterable[Unit]) -> list[Unit]:
    """Images of a folder, whatever their suffixes."""
    stems: dict[str, set[str]] = defaultdict(set)
    for unit in units:
        stems[unit.folder] |= unit.stems
    return [
        Unit(folder, ".*", "", "", frozenset(found)) for folder, found in stems.items() if found
    ]


def _best_images(label: Unit, images: Sequence[Unit]) -> tuple[Unit, Unit] | None:
    """The images that labels belong to, and the labels with what is added to their names."""
    best, most = None, (0.5, 0, 0)
    of_label = split_named(label.folder)
    for unit in images:
        of_unit = split_named(unit.folder)
        if of_label and of_unit and of_label != of_unit:
            continue
        cut = label if label.before or label.after else _cut(label, unit)
        shared = len(cut.stems & unit.stems)
        # Nearness: of folders with the same names in them, the one with the same parts of its path.
        parts = [set(each.folder.lower().split("/")) for each in (label, unit)]
        rarely = sum(word in unit.folder.lower() for word in _RARELY)
        fewest = max(min(len(cut.stems), len(unit.stems)), 1)
        score = shared / fewest, -rarely, len(parts[0] & parts[1])
        if shared and score >= most:
            best, most = (unit, cut), score
    return best


def _cut(label: Unit, images: Unit) -> Unit:
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


def _merge(pairs: Sequence[tuple[Unit, Unit]], root: Path) -> list[Pairing]:
    """One pairing for each split, over the folders that lie alike below it."""
    merged: dict[tuple[str, str, str], list[tuple[Unit, Unit, str]]] = defaultdict(list)
    for images, labels in pairs:
        split, above, below, inner = _split_of(images.folder, labels.folder)
        template = _template(below, labels.before, labels.after + labels.suffix)
        merged[split, _template(above, "", ".*"), template].append((images, labels, inner))
    found = []
    for (split, of_images, of_labels), parts in sorted(merged.items()):
        both = sum(len(images.stems & labels.stems) for images, labels, _ in parts)
        found.append(
            Pairing(
                split,
                of_images,
                of_labels,
                both,
                sum(len(images.stems - labels.stems) for images, labels, _ in parts),
                sum(len(labels.stems - images.stems) for images, labels, _ in parts),
            )
        )
    return found


def _split_of(images: str, labels: str) -> tuple[str, str, str, str]:
    """Split, folder of its images, folder of its labels, and the folders that both have below."""
    first, second = images.split("/"), labels.split("/")
    shared: list[str] = []
    while first and second and first[-1] == second[-1] and images != labels:
        if split_named(first[-1]):
            break
        shared.insert(0, first.pop())
        second.pop()
    split = split_named("/".join(first)) or split_named("/".join(second)) or WHOLE
    return split, "/".join(first), "/".join(second), "/".join(shared)


def _template(folder: str, before: str, end: str) -> str:
    return f"{folder}/{before}{{stem}}{end}" if folder else f"{before}{{stem}}{end}"


def _shown(unit: Unit) -> str:
    return _template(unit.folder, unit.before, unit.after + unit.suffix)
