"""ADE20K in the layout of the scene parsing challenge of 2016, 150 classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vice.datasets.label_files import opened
from vice.datasets.labelled_set import ImageLabelPair, LabelledSet
from vice.datasets.split_files import Folder, by_stem, check_partners, count
from vice.errors import UserError
from vice.images.lists import Contents
from vice.labels import IGNORE


@dataclass(frozen=True)
class AdeSplit:
    """One split.

    Attributes:
        folder: Its folder in ``images`` and ``annotations``.
        images: How many it has.
    """

    folder: str
    images: int


SPLITS = {"train": AdeSplit("training", 20_210), "val": AdeSplit("validation", 2_000)}


@dataclass(frozen=True)
class Ade20k(LabelledSet):
    """ADE20K: ``images/{training,validation}/*.jpg`` and ``annotations/.../*.png`` (0-150).

    0 is all that is none of the 150 classes, and ignored; the splits are ``train`` and ``val``.
    """

    def splits(self) -> list[str]:
        """Splits that have annotations."""
        folder = self.root / "annotations"
        return [name for name, split in SPLITS.items() if (folder / split.folder).is_dir()]

    def find(self, split: str, *, labels: bool) -> list[ImageLabelPair]:
        """Pairs of one split, sorted by name; all of the release must be there."""
        images, maps = self._folders(split)
        found = by_stem(images.path, images.suffixes, self.splits())
        if len(found) != SPLITS[split].images:
            raise UserError(
                f"{images.path}: {len(found)} images, but {split} of ADE20K's challenge has "
                f"{SPLITS[split].images}; complete it with tools/prepare_data.py ade150, or score "
                "your images as a labelled folder"
            )
        if not labels:
            return [ImageLabelPair(path, None) for path in found.values()]
        labelled = by_stem(maps.path, maps.suffixes, self.splits(), maps.kind)
        check_partners(found, labelled, maps.path, "label map")
        return [ImageLabelPair(path, labelled[stem]) for stem, path in found.items()]

    def count(self, split: str, *, labels: bool) -> list[Contents]:
        """What lies in the folders of one split."""
        images, maps = self._folders(split)
        return count([images, maps] if labels else [images])

    def read_published(self, path: str | Path) -> np.ndarray:
        """Reads values, and refuses those whose 0 has become 255, as after shifting them by 1."""
        with opened(path) as image:
            mode = image.mode
        if mode == "P":
            raise UserError(
                f"{path}: has a palette, which no annotation of the challenge does, and its "
                "indices may have been numbered anew: unpack ADEChallengeData2016.zip again"
            )
        stored = super().read_published(path)
        if (stored == IGNORE).any():
            raise UserError(
                f"{path}: holds {IGNORE}, which no annotation of the challenge does (0 is no "
                "class, 1 to 150 are the classes): its values were shifted by 1; unpack "
                "ADEChallengeData2016.zip again, or score it as a labelled folder"
            )
        return stored

    def _folders(self, split: str) -> tuple[Folder, Folder]:
        if split not in SPLITS:
            raise UserError(f"{self.root}: ADE20K has the splits train and val, not {split}")
        folder = SPLITS[split].folder
        return (
            Folder(self.root / "images" / folder, (".jpg",), "images"),
            Folder(self.root / "annotations" / folder, (".png",), "label maps"),
        )
