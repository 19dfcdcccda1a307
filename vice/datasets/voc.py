"""PASCAL VOC 2012, with the further masks of SBD, in the layout of the official release."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from vice.datasets.label_palettes import Color, check_known_palette
from vice.datasets.labelled_set import ImageLabelPair, LabelledSet
from vice.datasets.split_files import Folder, by_stem, check_partners, count, name_some
from vice.errors import UserError
from vice.images.lists import Contents
from vice.labels import IGNORE

IMAGES, OFFICIAL, AUGMENTED = "JPEGImages", "SegmentationClass", "SegmentationClassAug"
LISTS = "ImageSets/Segmentation"
#: What the release of 2012 is called, for messages.
RELEASE = "VOCtrainval_11-May-2012.tar"
_REMEDY = "remove it, and prepare the set with tools/prepare_data.py voc21"


@dataclass(frozen=True)
class VocSplit:
    """One split.

    Attributes:
        images: How many ids its list has.
        masks: Folder of its label maps.
    """

    images: int
    masks: str = OFFICIAL


#: ``trainaug`` is train and all that SBD has labelled, without val.
SPLITS = {
    "train": VocSplit(1_464),
    "val": VocSplit(1_449),
    "trainval": VocSplit(2_913),
    "trainaug": VocSplit(10_582, AUGMENTED),
}


@dataclass(frozen=True)
class PascalVoc(LabelledSet):
    """PASCAL VOC 2012: ``JPEGImages``, lists in ``ImageSets/Segmentation``, palette PNGs.

    ``train``, ``val`` and ``trainval`` have the masks of ``SegmentationClass``, ``trainaug`` those
    of ``SegmentationClassAug``; 255 (borders, difficult objects) is ignored. As the field's tools
    do, a mask of another size than its image is resized to it.
    """

    @property
    def resizes_labels(self) -> bool:
        """True: some masks of SBD differ from their image by a few pixels."""
        return True

    def splits(self) -> list[str]:
        """Splits whose list and masks are there."""
        return sorted(
            name
            for name, split in SPLITS.items()
            if list_path(self.root, name).is_file() and (self.root / split.masks).is_dir()
        )

    def find(self, split: str, *, labels: bool) -> list[ImageLabelPair]:
        """The listed images of one split; every file of the list must be there."""
        ids, folder = read_split(self.root, split), self.root / IMAGES
        images = by_stem(folder, (".jpg",), self.splits())
        check_partners(ids, images, folder, "image")
        if not labels:
            return [ImageLabelPair(images[name], None) for name in ids]
        folder = self.root / SPLITS[split].masks
        maps = by_stem(folder, (".png",), self.splits(), "label maps")
        check_partners(ids, maps, folder, "label map")
        return [ImageLabelPair(images[name], maps[name]) for name in ids]

    def count(self, split: str, *, labels: bool) -> list[Contents]:
        """What lies in the folders; the list of a split takes some of it."""
        images = Folder(self.root / IMAGES, (".jpg",), "images")
        masks = SPLITS[split].masks if split in SPLITS else OFFICIAL
        maps = Folder(self.root / masks, (".png",), "label maps")
        return count([images, maps] if labels else [images])

    def read_published(self, path: str | Path) -> np.ndarray:
        """Reads indices, and refuses palettes whose colors were numbered anew."""
        stored = super().read_published(path)
        check_known_palette(Path(path), stored, class_colors())
        return stored


def list_path(root: Path, split: str) -> Path:
    """Where the list of a split lies."""
    return root / LISTS / f"{split}.txt"


def read_split(root: Path, split: str) -> list[str]:
    """The ids of a split, sorted, after a look at how many they are.

    Args:
        root: The data set's folder.
        split: A key of ``SPLITS``.

    Returns:
        The ids.

    Raises:
        UserError: No such split or list, not as many ids as the split has, an id that is there
            twice, or images of val in trainaug.
    """
    if split not in SPLITS:
        raise UserError(f"{root}: PASCAL VOC has the splits {', '.join(SPLITS)}, not {split}")
    path = list_path(root, split)
    if not path.is_file():
        made = " out of SBD" if split == "trainaug" else f" out of {RELEASE}"
        raise UserError(
            f"{path}: no such list; prepare the set with tools/prepare_data.py voc21{made}"
        )
    ids = read_ids(path)
    if len(ids) != SPLITS[split].images:
        raise UserError(
            f"{path}: {len(ids)} ids, but {split} of PASCAL VOC 2012 has "
            f"{SPLITS[split].images}; {_REMEDY}, or score your images as a labelled folder"
        )
    if split == "trainaug":
        scored = set(read_split(root, "val")).intersection(ids)
        if scored:
            raise UserError(
                f"{path}: {len(scored)} of its images are in val, such as "
                f"{name_some(sorted(scored))}; {_REMEDY}"
            )
    return ids


def read_ids(path: Path) -> list[str]:
    """The ids of a list, sorted.

    Lists of trainaug that other projects hand around have the paths of image and mask on a line;
    the id is the stem of the first.

    Raises:
        UserError: Not text, no ids, or one that is there twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a list of ids in UTF-8 ({error})") from error
    ids = sorted(_id(line.split()[0]) for line in lines if line.strip())
    twice = sorted({name for name, other in pairwise(ids) if name == other})
    if twice:
        raise UserError(f"{path}: holds {name_some(twice)} twice; {_REMEDY}")
    return ids


def _id(word: str) -> str:
    path = PurePosixPath(word)
    return path.stem if path.suffix in (".jpg", ".png") else path.name


@cache
def class_colors() -> dict[int, Color]:
    """Color of each stored value in the official palette: of the 21 classes and of 255."""
    return {index: palette()[index] for index in (*range(21), IGNORE)}


@cache
def palette() -> tuple[Color, ...]:
    """The official palette: the bits of an index, dealt in turn to red, green and blue.

    Bit 3 j of the index is bit 7 - j of red, bit 3 j + 1 of green, bit 3 j + 2 of blue.
    """
    return tuple(
        (_channel(index, 0), _channel(index, 1), _channel(index, 2)) for index in range(256)
    )


def _channel(index: int, channel: int) -> int:
    return sum((index >> (3 * j + channel) & 1) << (7 - j) for j in range(3))
