"""Folders in the layout of a published release, told by the names of their folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vice.datasets.described.description import AS_STORED, IGNORED, SKIP, Description, Split
from vice.datasets.label_sets import label_set
from vice.labels import IGNORE


@dataclass(frozen=True)
class Layout:
    """A layout and its label set.

    Attributes:
        labels: Name of the label set.
        title: For the reasons.
        splits: Name of the split to its templates.
    """

    labels: str
    title: str
    splits: dict[str, Split]


_VOC = "ImageSets/Segmentation"
LAYOUTS = (
    Layout("cityscapes19", "Cityscapes", {
        split: Split(f"leftImg8bit/{split}/{{stem}}_leftImg8bit.png",
                     f"gtFine/{split}/{{stem}}_gtFine_labelIds.png")
        for split in ("train", "val")
    }),
    Layout("voc21", "PASCAL VOC", {
        split: Split("JPEGImages/{stem}.jpg", "SegmentationClass/{stem}.png", f"{_VOC}/{split}.txt")
        for split in ("train", "val", "trainval")
    }),
    Layout("ade150", "ADE20K", {
        name: Split(f"images/{split}/{{stem}}.jpg", f"annotations/{split}/{{stem}}.png")
        for name, split in (("train", "training"), ("val", "validation"))
    }),
)  # fmt: skip


def known_layout(root: Path, names: Sequence[str]) -> Description | None:
    """The description of a folder in a published layout; None of any other.

    Args:
        root: The folder.
        names: Files below it, with ``/``.
    """
    for layout in LAYOUTS:
        splits = _placed(layout, names)
        if not splits:
            continue
        labels = label_set(layout.labels)
        values = {
            value: IGNORED if index == IGNORE else labels.classes[index]
            for value, index in enumerate(labels.lookup.tolist())
            if index >= 0
        }
        return Description(
            name=root.resolve().name,
            splits=splits,
            classes=labels.classes,
            values=values,
            exif=AS_STORED,
            unpaired=SKIP,
            decisions=(
                f"folders are named as those of {layout.title}: its table {layout.labels} says "
                "what values mean, and pixels are read as they are stored",
            ),
        )
    return None


def _placed(layout: Layout, names: Sequence[str]) -> dict[str, Split]:
    """The splits of a layout that are there, in the highest folder that holds one."""
    first = next(iter(layout.splits.values())).images.split("/")[0]
    above = {name.partition(f"{first}/")[0] for name in names if f"/{first}/" in f"/{name}"}
    for folder in sorted(above, key=lambda each: (each.count("/"), each)):
        splits = {
            name: Split(
                folder + split.images,
                folder + split.labels,
                None if split.list is None else folder + split.list,
            )
            for name, split in layout.splits.items()
        }
        if there := {name: split for name, split in splits.items() if _is_there(split, names)}:
            return there
    return {}


def _is_there(split: Split, names: Sequence[str]) -> bool:
    ends = [template.partition("{stem}") for template in (split.images, split.labels)]
    return all(
        any(name.startswith(before) and name.endswith(after) for name in names)
        for before, _, after in ends
    ) and (split.list is None or split.list in names)
