"""Folders of one image each, whose files are called alike in all: ``scene 7/image.png``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vice.datasets.described.file_units import RARELY, WHOLE, Unit, split_named
from vice.datasets.described.label_likeness import share_of_labels
from vice.datasets.described.placing import Placed, common_folder
from vice.datasets.described.templates import STEM, composed
from vice.images import SUFFIXES

#: Names of files that may repeat in all folders; frames of videos have more.
MOST_NAMES = 32
#: What the image of a sample is called, where several files of it may be it.
_OF_IMAGES = ("image", "img", "photo", "rgb", "input", "original")


@dataclass
class _Group:
    """Files of one name in different folders.

    Attributes:
        name: Without its suffix.
        suffix: As it is written; ``.*`` of images.
        files: By their folder.
    """

    name: str
    suffix: str
    files: dict[str, str] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[int, int, str]:
        """Sorts labels of the same images, the likeliest first."""
        return Unit("", self.suffix, self.name, "", frozenset()).label_rank


def find_samples(root: Path, names: Sequence[str]) -> tuple[list[Placed], list[str], list[str]]:
    """Finds folders that hold one image and its labels each.

    Args:
        root: The folder.
        names: Files below it, with ``/``.

    Returns:
        Where they lie, for each split; the other files; and a line for each choice.
    """
    by_split: dict[str, dict[tuple[str, str], _Group]] = defaultdict(dict)
    for name in names:
        path = PurePosixPath(composed(name))
        if path.suffix.lower() in SUFFIXES and len(path.parts) > 1:
            folder = str(path.parent)
            groups = by_split[split_named(folder) or WHOLE]
            key = path.stem, path.suffix
            groups.setdefault(key, _Group(*key)).files[folder] = name
    placed: list[Placed] = []
    notes: list[str] = []
    taken: set[str] = set()
    for split, groups in sorted(by_split.items()):
        found = _of_split(root, split, [each for each in groups.values() if len(each.files) > 1])
        if found is not None:
            place, images, labels, others = found
            placed.append(place)
            shared = images.files.keys() & labels.files.keys()
            taken.update(name for name in names if _folder_of(name) in shared)
            if others:
                notes.append(
                    f"of each folder of {place.images} these files are left out: "
                    f"{', '.join(sorted(others))}"
                )
    return placed, [name for name in names if name not in taken], notes


def _of_split(
    root: Path, split: str, groups: Sequence[_Group]
) -> tuple[Placed, _Group, _Group, list[str]] | None:
    """Images and labels among files of equal names; None where there are none, or several."""
    if len(groups) > MOST_NAMES:
        return None
    shares = [share_of_labels([root / name for name in each.files.values()]) for each in groups]
    labels = [each for each, share in zip(groups, shares, strict=True) if share == 1]
    images = _whatever_suffix(
        [each for each, share in zip(groups, shares, strict=True) if share == 0]
    )
    for label in sorted(labels, key=lambda each: each.rank):
        image = _image_of(label, images)
        if image is None:
            continue
        shared = image.files.keys() & label.files.keys()
        common = common_folder(sorted(shared))
        if 2 * len(shared) < max(len(image.files), len(label.files)) or common in shared:
            continue
        start = f"{common}/{STEM}/" if common else f"{STEM}/"
        place = Placed(split, f"{start}{image.name}.*", f"{start}{label.name}{label.suffix}")
        others = {
            f"{each.name}{each.suffix}"
            for each in groups
            if each.files.keys() & shared and each.name != image.name and each is not label
        }
        return place, image, label, sorted(others)
    return None


def _image_of(label: _Group, images: Sequence[_Group]) -> _Group | None:
    """The images that lie beside labels; None where there are none, or several that may be."""
    beside = [each for each in images if len(each.files.keys() & label.files.keys()) > 1]
    named = [each for each in beside if any(word in each.name.lower() for word in _OF_IMAGES)]
    found = named or beside
    plain = [each for each in found if not any(word in each.name.lower() for word in RARELY)]
    found = plain or found
    return found[0] if len(found) == 1 else None


def _whatever_suffix(groups: Sequence[_Group]) -> list[_Group]:
    merged: dict[str, _Group] = {}
    for each in groups:
        merged.setdefault(each.name, _Group(each.name, ".*")).files.update(each.files)
    return list(merged.values())


def _folder_of(name: str) -> str:
    return str(PurePosixPath(composed(name)).parent)
