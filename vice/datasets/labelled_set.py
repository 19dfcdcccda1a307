"""What every labelled data set offers, whatever its files are called."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vice.datasets.label_sets import IGNORE, LabelSet
from vice.errors import UserError
from vice.names import name_bytes
from vice.picture_formats import open_picture
from vice.progress import progress

EXIF_ORIENTATION = 274
THREADS = 8
MOST_NAMED = 5


@dataclass(frozen=True)
class Pair:
    """An image file and the label map that belongs to it.

    Attributes:
        image: The image.
        label: Its label map; None where a split has none.
    """

    image: Path
    label: Path | None


@dataclass(frozen=True)
class LabelledSet(ABC):
    """A labelled data set on disk; get one with `vice.datasets.open_dataset`.

    Attributes:
        root: The data set's folder.
        classes: Class names in index order.
        label_set: What stored values mean; None where they are the class indices.
        name: Name of the data set.
    """

    root: Path
    classes: tuple[str, ...]
    label_set: LabelSet | None = None
    name: str = ""

    @abstractmethod
    def splits(self) -> list[str]:
        """Names of the splits that have labels here, sorted."""

    @abstractmethod
    def find(self, split: str, *, labels: bool) -> list[Pair]:
        """Pairs of one split, sorted by name; `pairs` is the public form of it."""

    def pairs(self, split: str, *, labels: bool = True) -> list[Pair]:
        """All images of a split with their label maps.

        Args:
            split: Name of the split, for example ``"train"``, or several joined with ``+``.
            labels: False looks for images only.

        Returns:
            At least one pair; those of one split are sorted by name.

        Raises:
            UserError: No such split, no image in it, or an image or a label without its partner.
        """
        return [pair for part in split.split("+") for pair in self.find(part, labels=labels)]

    def check(self, split: str, *, labels: bool = True) -> list[Pair]:
        """`pairs`, after a look at the header of every file (no pixel is decoded).

        Args:
            split: As in `pairs`.
            labels: As in `pairs`.

        Returns:
            The pairs.

        Raises:
            UserError: What `pairs` raises, a file that is no image, a label map that is not 8-bit
                grey or palette, or an image and a label map of different sizes.
        """
        pairs = self.pairs(split, labels=labels)
        with ThreadPoolExecutor(THREADS) as pool:
            checked = pool.map(check_pair, pairs)
            for _ in progress(checked, len(pairs), f"checking {self.name} {split}"):
                pass
        return pairs

    def checksum(self, split: str, *, labels: bool = True) -> str:
        """SHA-256 of the list of images of a split, as paths below the root."""
        return list_checksum(self.names(split, labels=labels))

    def names(self, split: str, *, labels: bool = True) -> list[str]:
        """Images of a split as paths below the root, in the order of `pairs`."""
        pairs = self.pairs(split, labels=labels)
        return [pair.image.relative_to(self.root).as_posix() for pair in pairs]

    def read_label(self, path: str | Path) -> np.ndarray:
        """Reads a label map as class indices.

        Args:
            path: The file.

        Returns:
            uint8 (H, W), 255 = ignore.

        Raises:
            UserError: The file cannot be read, is not 8-bit grey or palette, or holds a value
                that is no class.
        """
        stored = read_stored(path)
        if self.label_set is not None:
            return self.label_set.apply(stored, path)
        wrong = stored[(stored >= len(self.classes)) & (stored != IGNORE)]
        if len(wrong):
            raise UserError(
                f"{path}: class index {int(wrong[0])}, but {self.name} has only "
                f"{len(self.classes)} classes (0..{len(self.classes) - 1}; {IGNORE} means ignore)"
            )
        return stored


def list_checksum(names: Iterable[str]) -> str:
    """SHA-256, as hexadecimal text, of names in their order, one a line."""
    return hashlib.sha256(name_bytes("".join(f"{name}\n" for name in names))).hexdigest()


def read_stored(path: str | Path) -> np.ndarray:
    """Reads a label map as it is stored.

    Returns:
        uint8 (H, W); of a palette image the indices.

    Raises:
        UserError: The file cannot be read, or is not 8-bit grey or palette.
    """
    with _opened(path) as image:
        _check_label_mode(path, image.mode)
        return np.array(image)


def by_stem(folder: Path, suffixes: tuple[str, ...], known: Iterable[str] = ()) -> dict[str, Path]:
    """Files of a folder by stem, sorted.

    Args:
        folder: Where to look; hidden files are left out.
        suffixes: Endings in lower case.
        known: What splits there are, for the message.

    Raises:
        UserError: No such folder, no such file, or two files of one stem.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; splits with labels here: {', '.join(known) or 'none'}"
        )
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


def check_partners(
    files: Iterable[str] | Mapping[str, Path], partners: Iterable[str], folder: Path, kind: str
) -> None:
    """Sees to it that every file has a partner.

    Args:
        files: Stems, or files by stem.
        partners: Stems.
        folder: Where the partners should be, for the message.
        kind: What they are, for the message.

    Raises:
        UserError: Names the first files without a partner of the same stem.
    """
    stems = sorted(set(files) - set(partners))
    if stems:
        lonely = [files[stem].name for stem in stems] if isinstance(files, Mapping) else stems
        raise UserError(f"{folder}: no {kind} for {name_some(lonely)}")


def name_some(names: Sequence[object]) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(str(name) for name in names[:MOST_NAMED]) + more


def check_pair(pair: Pair) -> None:
    """Looks at the headers of an image and its label map.

    Raises:
        UserError: See `LabelledSet.check`.
    """
    size = _size(pair.image)
    if pair.label is None:
        return
    label_size = _size(pair.label, label=True)
    if size != label_size:
        raise UserError(
            f"{pair.label}: {label_size[0]}x{label_size[1]} pixels, but its image {pair.image} "
            f"has {size[0]}x{size[1]}; they must match"
        )


def _size(path: Path, *, label: bool = False) -> tuple[int, int]:
    with _opened(path) as image:
        if label:
            _check_label_mode(path, image.mode)
            return image.size
        sideways = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
        return (image.height, image.width) if sideways else image.size


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    try:
        with open_picture(path) as image:
            yield image
    except UserError:
        raise
    # Decoders meet broken bytes with almost any exception, as in `vice.images.read_image`.
    except Exception as error:
        raise UserError(f"{path}: cannot be read as an image ({error})") from error


def _check_label_mode(path: str | Path, mode: str) -> None:
    if mode not in ("L", "P"):
        raise UserError(
            f"{path}: pixel format {mode!r}; a label map must be 8-bit grey or palette, holding "
            "an index for each pixel"
        )
