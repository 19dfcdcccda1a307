"""Where the files of a split lie: templates over all folders that are laid out alike."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from vice.datasets.described.file_units import WHOLE, Unit, split_named, template
from vice.datasets.described.templates import FOLDER


@dataclass(frozen=True)
class Placed:
    """Images and labels that go together.

    Attributes:
        split: Name of the split.
        images: Template of the images, see `vice.datasets.described.templates`.
        labels: Template of the labels.
    """

    split: str
    images: str
    labels: str


@dataclass(frozen=True)
class _Kind:
    """What folders that are laid out alike have in common: all but the folder above."""

    split: str
    of_images: str
    of_labels: str
    before: str
    end: str


def place(pairs: Sequence[tuple[Unit, Unit]]) -> list[Placed]:
    """Templates of images and their labels, over the folders that lie alike, sorted.

    Args:
        pairs: Images of a folder, and their labels.
    """
    above: dict[_Kind, set[str]] = defaultdict(set)
    for images, labels in pairs:
        split, first, second = _split_of(images.folder, labels.folder)
        shared = common_folder([first, second])
        kind = _Kind(
            split,
            first[len(shared) :].lstrip("/"),
            second[len(shared) :].lstrip("/"),
            labels.before,
            labels.after + labels.suffix,
        )
        above[kind].add(shared)
    found = {placed for kind, folders in above.items() for placed in _placed(kind, folders)}
    return sorted(found, key=lambda each: (each.split, each.images, each.labels))


def _placed(kind: _Kind, folders: set[str]) -> list[Placed]:
    """One place of several folders, where that is possible."""
    if len(folders) == 1:
        return [_in(kind, folder, "") for folder in folders]
    common = common_folder(sorted(folders))
    if kind.split != WHOLE and split_named(common) != kind.split:
        # Splits below scenes: without the name of theirs, templates would mix them.
        ending = _common_end(folders)
        if not ending or split_named(ending) != kind.split:
            return [_in(kind, folder, "") for folder in folders]
        kind = replace(
            kind,
            of_images=f"{ending}/{kind.of_images}".rstrip("/"),
            of_labels=f"{ending}/{kind.of_labels}".rstrip("/"),
        )
        folders = {folder.removesuffix(ending).rstrip("/") for folder in folders}
        common = common_folder(sorted(folders))
    if not (kind.of_images or kind.of_labels or kind.before):
        # Folders are a part of the stem.
        return [_in(kind, common, "")]
    inner = folders - {common}
    return [_in(kind, common, FOLDER), *(_in(kind, common, "") for _ in folders - inner)]


def _in(kind: _Kind, folder: str, between: str) -> Placed:
    images, labels = (
        "/".join(part for part in (folder, between, below) if part)
        for below in (kind.of_images, kind.of_labels)
    )
    return Placed(kind.split, template(images, "", ".*"), template(labels, kind.before, kind.end))


def common_folder(folders: Sequence[str]) -> str:
    """The folder that others have in common; empty for none."""
    return posixpath.commonpath(folders)


def _common_end(folders: Collection[str]) -> str:
    """The folders that others all end in; empty for none."""
    parts = [folder.split("/") for folder in folders]
    shared: list[str] = []
    for names in zip(*(reversed(each) for each in parts), strict=False):
        if len(set(names)) > 1:
            break
        shared.insert(0, names[0])
    return "/".join(shared)


def _split_of(images: str, labels: str) -> tuple[str, str, str]:
    """Split, folder of its images and folder of its labels, without what both have below."""
    first, second = images.split("/"), labels.split("/")
    while first and second and first[-1] == second[-1] and images != labels:
        if split_named(first[-1]):
            break
        first.pop()
        second.pop()
    split = split_named("/".join(first)) or split_named("/".join(second)) or WHOLE
    return split, "/".join(first), "/".join(second)
