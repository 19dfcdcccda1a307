"""The benchmarks of the field in the layouts of their official releases, labels untouched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vice.datasets.curated import CURATED, read_list
from vice.datasets.labelled_folder import LabelledFolder, open_folder
from vice.datasets.labelled_set import ImageLabelPair, LabelledSet
from vice.datasets.split_files import Folder, by_stem, check_partners, count
from vice.errors import UserError
from vice.images.lists import Contents


@dataclass(frozen=True)
class CocoStuff(LabelledSet):
    """COCO 2017 with the stuffthingmaps, on the curated lists of IIC and PiCIE.

    ``images/{train,val}2017/<id>.jpg``, ``annotations/{train,val}2017/<id>.png`` (0-181, 255) and
    the two lists of `vice.datasets.curated`, as ``tools/prepare_data.py coco27`` leaves them and
    as PiCIE and STEGO have them.
    """

    def splits(self) -> list[str]:
        """Splits whose list is there."""
        return [name for name, c in CURATED.items() if (self.root / c.file).is_file()]

    def find(self, split: str, *, labels: bool) -> list[ImageLabelPair]:
        """The listed images of one split; every file of the list must be there."""
        if split not in CURATED:
            raise UserError(f"{self.root}: COCO-Stuff27 has the splits train and val, not {split}")
        ids, year = read_list(self.root, split), f"{split}2017"
        images = by_stem(self.root / "images" / year, (".jpg",), self.splits())
        check_partners(ids, images, self.root / "images" / year, "image")
        if not labels:
            return [ImageLabelPair(images[name], None) for name in ids]
        maps = by_stem(self.root / "annotations" / year, (".png",), self.splits(), "label maps")
        check_partners(ids, maps, self.root / "annotations" / year, "label map")
        return [ImageLabelPair(images[name], maps[name]) for name in ids]

    def count(self, split: str, *, labels: bool) -> list[Contents]:
        """What lies in the folders of a year; the lists take some of it."""
        images = Folder(self.root / "images" / f"{split}2017", (".jpg",), "images")
        maps = Folder(self.root / "annotations" / f"{split}2017", (".png",), "label maps")
        return count([images, maps] if labels else [images])


@dataclass(frozen=True)
class Cityscapes(LabelledSet):
    """Cityscapes: ``leftImg8bit/<split>/<city>`` and ``gtFine/<split>/<city>/*_labelIds.png``."""

    def splits(self) -> list[str]:
        """Splits that have fine labels."""
        folder = self.root / "gtFine"
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []

    def find(self, split: str, *, labels: bool) -> list[ImageLabelPair]:
        """Pairs of one split, sorted by city and name."""
        images = self._by_frame(self.root / "leftImg8bit" / split, "_leftImg8bit.png")
        if not labels:
            return [ImageLabelPair(path, None) for path in images.values()]
        folder = self.root / "gtFine" / split
        maps = self._by_frame(folder, "_gtFine_labelIds.png")
        check_partners(images, maps, folder, "*_gtFine_labelIds.png")
        return [ImageLabelPair(path, maps[frame]) for frame, path in images.items()]

    def count(self, split: str, *, labels: bool) -> list[Contents]:
        """What lies in the folders of the cities."""
        images = self._count(self.root / "leftImg8bit" / split, "_leftImg8bit.png", "images")
        maps = self._count(self.root / "gtFine" / split, "_gtFine_labelIds.png", "label maps")
        return [images, maps] if labels else [images]

    def _count(self, folder: Path, ending: str, kind: str) -> Contents:
        contents = Contents(folder, kind)
        for path in folder.glob("*/*"):
            # Suffix filter: a release has more maps of each frame; those of one ending are read.
            contents.take(path.name, (".png",) if path.name.endswith(ending) else ())
        return contents

    def _by_frame(self, folder: Path, ending: str) -> dict[str, Path]:
        files = sorted(folder.glob(f"*/*{ending}"))
        if not files:
            known = ", ".join(self.splits()) or "none"
            raise UserError(f"{folder}: no CITY/*{ending}; splits with labels here: {known}")
        return {path.name.removesuffix(ending): path for path in files}


@dataclass(frozen=True)
class CamVid(LabelledSet):
    """CamVid as SegNet published it: ``<split>/*.png`` and ``<split>annot/*.png`` (0-11)."""

    def splits(self) -> list[str]:
        """Splits that have labels."""
        return sorted(path.name.removesuffix("annot") for path in self.root.glob("*annot"))

    def find(self, split: str, *, labels: bool) -> list[ImageLabelPair]:
        """Pairs of one split, sorted by name."""
        images = by_stem(self.root / split, (".png", ".jpg"), self.splits())
        if not labels:
            return [ImageLabelPair(path, None) for path in images.values()]
        folder = self.root / f"{split}annot"
        maps = by_stem(folder, (".png",), self.splits(), "label maps")
        check_partners(images, maps, folder, "label map")
        return [ImageLabelPair(path, maps[stem]) for stem, path in images.items()]

    def count(self, split: str, *, labels: bool) -> list[Contents]:
        """What lies in the folders of one split."""
        images = Folder(self.root / split, (".png", ".jpg"), "images")
        maps = Folder(self.root / f"{split}annot", (".png",), "label maps")
        return count([images, maps] if labels else [images])


def open_as_folder(root: Path, name: str, classes: tuple[str, ...]) -> LabelledFolder:
    """A benchmark that lies in the labelled-folder layout, its classes verified.

    Raises:
        UserError: What `open_folder` raises, or other classes than the label set's.
    """
    folder = open_folder(root)
    if folder.classes != classes:
        unlike = [pair for pair in zip(folder.classes, classes, strict=False) if pair[0] != pair[1]]
        first = f": {unlike[0][0]!r} instead of {unlike[0][1]!r}" if unlike else ""
        raise UserError(
            f"{root / 'classes.txt'}: not the {len(classes)} classes of {name}{first}; give the "
            "folder's path as the data set to score it under its own classes"
        )
    return LabelledFolder(root, classes, name=name)
