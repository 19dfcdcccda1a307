"""A labelled data set as a plain folder.

``ROOT/images/<split>/<stem>.jpg|png``, ``ROOT/labels/<split>/<stem>.png`` (uint8 class index of
each pixel, 255 = ignore) and ``ROOT/classes.txt`` (one class name a line, in index order; where
every line starts with a number, that is the index, and the line of 255 names what is ignored).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vice.datasets.label_sets import IGNORE
from vice.datasets.labelled_set import LabelledSet, Pair, by_stem, check_partners
from vice.errors import UserError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MAX_CLASSES = 255


@dataclass(frozen=True)
class LabelledFolder(LabelledSet):
    """A data set in the labelled-folder layout; make it with `open_folder`."""

    def splits(self) -> list[str]:
        """Names of the splits that have labels, sorted."""
        folder = self.root / "labels"
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if path.is_dir())

    def find(self, split: str, *, labels: bool) -> list[Pair]:
        """Pairs of one split, sorted by name."""
        images = by_stem(self.root / "images" / split, IMAGE_SUFFIXES, self.splits())
        if not labels:
            return [Pair(image, None) for image in images.values()]
        found = by_stem(self.root / "labels" / split, (".png",), self.splits())
        check_partners(images, found, self.root / "labels" / split, "label map")
        check_partners(found, images, self.root / "images" / split, "image")
        return [Pair(images[stem], found[stem]) for stem in sorted(images)]


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
        raise UserError(f"{root}: no such data set folder; check the path")
    path = root / "classes.txt"
    if not path.is_file():
        raise UserError(
            f"{path}: missing; write one class name a line, in the order of the label indices"
        )
    return LabelledFolder(root, _read_classes(path), name=root.resolve().name)


def _read_classes(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error
    names = [line.strip() for line in text.rstrip().splitlines()]
    if not names:
        raise UserError(f"{path}: empty; write one class name a line")
    if "" in names:
        raise UserError(f"{path}: line {names.index('') + 1} is empty; name every class")
    names = _strip_indices(names, path)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path}: class {twice[0]!r} stands there twice; names must be unique")
    if len(names) > MAX_CLASSES:
        raise UserError(f"{path}: {len(names)} classes; an 8-bit label map has room for 255")
    return tuple(names)


def _strip_indices(names: list[str], path: Path) -> list[str]:
    parts = [name.split(maxsplit=1) for name in names]
    if not all(len(part) == 2 and part[0].isdigit() for part in parts):
        return names
    numbered = {int(index): name for index, name in parts if int(index) != IGNORE}
    if sorted(numbered) != list(range(len(numbered))):
        raise UserError(
            f"{path}: the numbers in front of the names are not 0, 1, 2, ...: correct or remove "
            "them"
        )
    return [numbered[index] for index in range(len(numbered))]
