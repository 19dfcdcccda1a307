"""A labelled data set as a plain folder.

``ROOT/images/<split>/<stem>.jpg|png``, ``ROOT/labels/<split>/<stem>.png`` (uint8 class index of
each pixel, 255 = ignore) and ``ROOT/classes.txt`` (one class name a line, in index order; where
every line starts with a number, that is the index, and the line of 255 names what is ignored).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vice.datasets.class_names import read_class_names
from vice.datasets.labelled_set import ImageLabelPair, LabelledSet
from vice.datasets.split_files import (
    DESCRIBE,
    Folder,
    by_stem,
    check_partners,
    count,
    nearby_names,
)
from vice.errors import UserError
from vice.images import SUFFIXES
from vice.images.lists import Contents
from vice.nearest import near_path

LABEL_SUFFIXES = (".png",)


@dataclass(frozen=True)
class LabelledFolder(LabelledSet):
    """A data set in the labelled-folder layout; make it with `open_folder`."""

    def splits(self) -> list[str]:
        """Names of the splits that have labels, sorted."""
        folder = self.root / "labels"
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if path.is_dir())

    def find(self, split: str, *, labels: bool) -> list[ImageLabelPair]:
        """Pairs of one split, sorted by name."""
        of_images, *of_labels = self._folders(split, labels)
        images = by_stem(of_images.path, SUFFIXES, self.splits())
        if not of_labels:
            return [ImageLabelPair(image, None) for image in images.values()]
        folder = of_labels[0].path
        maps = by_stem(folder, LABEL_SUFFIXES, self.splits(), of_labels[0].kind)
        check_partners(images, maps, folder, "label map")
        check_partners(maps, images, of_images.path, "image")
        return [ImageLabelPair(images[stem], maps[stem]) for stem in sorted(images)]

    def count(self, split: str, *, labels: bool) -> list[Contents]:
        """What lies in the folders of one split."""
        return count(self._folders(split, labels))

    def _folders(self, split: str, labels: bool) -> list[Folder]:
        images = Folder(self.root / "images" / split, SUFFIXES, "images")
        maps = Folder(self.root / "labels" / split, LABEL_SUFFIXES, "label maps")
        return [images, maps] if labels else [images]


def open_folder(root: str | Path) -> LabelledFolder:
    """Opens a data set in the labelled-folder layout.

    Args:
        root: The folder with ``images``, ``labels`` and ``classes.txt``.

    Returns:
        The data set; files are looked up when its methods ask for them.

    Raises:
        UserError: No such folder, or ``classes.txt`` is missing, empty or wrong.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such data set folder{near_path(root, 'check the path')}")
    path = root / "classes.txt"
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; a labelled folder has images/SPLIT, labels/SPLIT and "
            "classes.txt (one class name a line, in the order of the label indices); of another "
            f"layout, {DESCRIBE}" + nearby_names(path)
        )
    return LabelledFolder(root, read_class_names(path), name=root.resolve().name)
