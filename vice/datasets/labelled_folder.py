"""A labelled data set as a plain folder.

``ROOT/images/<split>/<stem>.jpg|png``, ``ROOT/labels/<split>/<stem>.png`` (uint8 class index of
each pixel, 255 = ignore) and ``ROOT/classes.txt`` (one class name a line, in index order; where
every line starts with a number, that is the index, and the line of 255 names what is ignored).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from vice.errors import UserError
from vice.progress import progress

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
EXIF_ORIENTATION = 274
IGNORE = 255
MAX_CLASSES = 255


@dataclass(frozen=True)
class Pair:
    """An image file and the label map that belongs to it."""

    image: Path
    label: Path


@dataclass(frozen=True)
class LabelledFolder:
    """A data set in the labelled-folder layout; make it with `open_folder`.

    Attributes:
        root: The data set's folder.
        classes: Class names in index order.
    """

    root: Path
    classes: tuple[str, ...]

    def splits(self) -> list[str]:
        """Names of the splits that have labels, sorted."""
        folder = self.root / "labels"
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if path.is_dir())

    def pairs(self, split: str) -> list[Pair]:
        """All images of a split with their label maps, sorted by name.

        Args:
            split: Name of the split, for example ``"train"``.

        Returns:
            At least one pair.

        Raises:
            UserError: No such split, no image in it, two images with one stem, or an image or a
                label without its partner.
        """
        images = self._files("images", split, IMAGE_SUFFIXES)
        labels = self._files("labels", split, (".png",))
        _check_partners(images, labels, self.root / "labels" / split, "label map")
        _check_partners(labels, images, self.root / "images" / split, "image")
        return [Pair(images[stem], labels[stem]) for stem in sorted(images)]

    def check(self, split: str) -> list[Pair]:
        """`pairs`, after a look at the header of every file (no pixel is decoded).

        Args:
            split: Name of the split.

        Returns:
            The pairs.

        Raises:
            UserError: What `pairs` raises, a file that is no image, a label map that is not 8-bit
                grey or palette, or an image and a label map of different sizes.
        """
        pairs = self.pairs(split)
        for pair in progress(pairs, len(pairs), f"checking {self.root.name}/{split}"):
            _check_pair(pair)
        return pairs

    def _files(self, kind: str, split: str, suffixes: tuple[str, ...]) -> dict[str, Path]:
        folder = self.root / kind / split
        if not folder.is_dir():
            known = ", ".join(self.splits()) or "none"
            raise UserError(f"{folder}: no such folder; splits with labels here: {known}")
        files: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() not in suffixes or path.name.startswith("."):
                continue
            if path.stem in files:
                raise UserError(
                    f"{path} and {files[path.stem]} share one stem: remove or rename one of them"
                )
            files[path.stem] = path
        if not files:
            raise UserError(f"{folder}: no files ending in {', '.join(suffixes)}")
        return files


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
    return LabelledFolder(root, _read_classes(path))


def _read_classes(path: Path) -> tuple[str, ...]:
    names = [line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines()]
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


def _check_partners(
    files: dict[str, Path], partners: dict[str, Path], folder: Path, kind: str
) -> None:
    lonely = [files[stem].name for stem in sorted(files.keys() - partners.keys())]
    if lonely:
        more = f" and {len(lonely) - 5} more" if len(lonely) > 5 else ""
        raise UserError(f"{folder}: no {kind} for {', '.join(lonely[:5])}{more}")


def _check_pair(pair: Pair) -> None:
    size, label_size = _size(pair.image), _size(pair.label, label=True)
    if size != label_size:
        raise UserError(
            f"{pair.label}: {label_size[0]}x{label_size[1]} pixels, but its image {pair.image} "
            f"has {size[0]}x{size[1]}; they must match"
        )


def _size(path: Path, *, label: bool = False) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            if label:
                _check_label_mode(path, image.mode)
                return image.size
            sideways = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
            return (image.height, image.width) if sideways else image.size
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error})") from error


def _check_label_mode(path: Path, mode: str) -> None:
    if mode not in ("L", "P"):
        raise UserError(
            f"{path}: pixel format {mode!r}; a label map must be 8-bit grey or palette, holding "
            "the class index of each pixel"
        )
