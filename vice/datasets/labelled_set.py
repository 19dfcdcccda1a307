"""What every labelled data set offers, whatever its files are called."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vice.datasets.label_audit import audit, out_of_range
from vice.datasets.label_files import (
    Geometry,
    check_alignment,
    geometry,
    read_stored,
    resize_nearest,
    same_shape,
)
from vice.datasets.label_sets import LabelSet
from vice.errors import UserError
from vice.images import Reading, check_format
from vice.images.image_windows import image_header
from vice.images.lists import Contents, announce
from vice.labels import IGNORE
from vice.names import name_bytes
from vice.runtime.progress import progress

logger = logging.getLogger(__name__)
THREADS = 8


@dataclass(frozen=True)
class ImageLabelPair:
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
        reading: How its images are read; None as 8-bit RGB.
    """

    root: Path
    classes: tuple[str, ...]
    label_set: LabelSet | None = None
    name: str = ""
    reading: Reading | None = field(default=None, kw_only=True)

    @abstractmethod
    def splits(self) -> list[str]:
        """Names of the splits that have labels here, sorted."""

    @abstractmethod
    def find(self, split: str, *, labels: bool) -> list[ImageLabelPair]:
        """Pairs of one split, sorted by name; `pairs` is the public form of it."""

    @abstractmethod
    def count(self, split: str, *, labels: bool) -> list[Contents]:
        """What lies in the folders of one split; `contents` is the public form of it."""

    @property
    def upright(self) -> bool:
        """Whether images and label maps are turned as their EXIF orientation says.

        Benchmarks are read as their authors' tools read them: in the order of stored pixels.
        """
        return self.label_set is None

    @property
    def digest(self) -> str | None:
        """What tells how stored values are read, for results; None where the name says it."""
        return None

    @property
    def resizes_labels(self) -> bool:
        """Whether a label map of the same shape as its image, in another size, is resized to it.

        Elsewhere it is refused.
        """
        return False

    def contents(self, split: str, *, labels: bool = True) -> list[Contents]:
        """What lies in the folders of a split: what is read of it, and what is left out.

        Args:
            split: As in `pairs`.
            labels: As in `pairs`.

        Returns:
            The counts of each folder that is there.

        Raises:
            UserError: A folder cannot be read.
        """
        return [content for part in split.split("+") for content in self.count(part, labels=labels)]

    def pairs(self, split: str, *, labels: bool = True) -> list[ImageLabelPair]:
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

    def check(self, split: str, *, labels: bool = True) -> list[ImageLabelPair]:
        """`pairs`, after a look at the header of every file (no pixel is decoded).

        Args:
            split: As in `pairs`.
            labels: As in `pairs`.

        Returns:
            The pairs.

        Raises:
            UserError: What `pairs` raises, a file that is no image, a label map that is not 8-bit
                grey or palette, or an image and a label map that do not lie over each other (see
                `vice.datasets.label_files.check_alignment`).
        """
        for content in self.contents(split, labels=labels):
            announce(content)
        pairs = self.pairs(split, labels=labels)
        resized = self.count_resized(pairs, f"checking {self.name} {split}")
        if resized:
            logger.warning(
                "%s %s: %d of %d label maps have another size than their image and are resized to "
                "it, to the nearest pixel", self.name, split, resized, len(pairs),
            )  # fmt: skip
        return pairs

    def count_resized(self, pairs: Sequence[ImageLabelPair], title: str) -> int:
        """Looks at the headers of images and label maps.

        Args:
            pairs: As `pairs` returns them.
            title: What is being done, for the log.

        Returns:
            How many label maps will be resized to their image.

        Raises:
            UserError: See `check`.
        """
        with ThreadPoolExecutor(THREADS) as pool:
            return sum(progress(pool.map(self._check_pair, pairs), len(pairs), title))

    def _check_pair(self, pair: ImageLabelPair) -> bool:
        """Whether the label map will be resized."""
        of_image = self.look(pair.image)
        if pair.label is None:
            return False
        return check_alignment(
            pair.image,
            pair.label,
            upright=self.upright,
            resizable=self.resizes_labels,
            of_image=of_image,
        )

    def look(self, image: Path) -> Geometry:
        """The size and orientation of an image by its header.

        Raises:
            UserError: It is none, or not read.
        """
        if self.reading is None:
            check_format(image)
            return geometry(image)
        size, orientation = image_header(image, self.reading)
        return Geometry((size[1], size[0]), orientation)

    def audit(self, split: str) -> int:
        """Reads label maps of a split and makes sure that they can be what they are taken for.

        Args:
            split: As in `pairs`; it must have labels.

        Returns:
            How many were read: all of a labelled folder, up to
            `vice.datasets.label_audit.MOST_READ`; of a benchmark's release as many as it takes.

        Raises:
            UserError: See `vice.datasets.label_audit.audit`.
        """
        files = [pair.label for pair in self.pairs(split) if pair.label is not None]
        title = f"{self.name} {split}"
        indices = self.label_set is None
        return audit(files, self.read_label, self.classes, title, indices=indices)

    def checksum(self, split: str, *, labels: bool = True) -> str:
        """SHA-256 of the list of images of a split, as paths below the root."""
        return list_checksum(self.names(split, labels=labels))

    def names(self, split: str, *, labels: bool = True) -> list[str]:
        """Images of a split as paths below the root, in the order of `pairs`."""
        pairs = self.pairs(split, labels=labels)
        return [pair.image.relative_to(self.root).as_posix() for pair in pairs]

    def read_label(self, path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
        """Reads a label map as class indices.

        Args:
            path: The file.
            size: Height and width of its image; None: whatever the label map has.

        Returns:
            uint8 (H, W), 255 = ignore.

        Raises:
            UserError: The file cannot be read, is not 8-bit grey or palette, holds a value that
                is no class, or is not of the size of its image (see `resizes_labels`).
        """
        labels = self.read_classes(path)
        if size is None or labels.shape == size:
            return labels
        if self.resizes_labels and same_shape(labels.shape, size):
            return resize_nearest(labels, size)
        raise UserError(
            f"{path}: {labels.shape[1]}x{labels.shape[0]} pixels, but its image has "
            f"{size[1]}x{size[0]}; they must match"
        )

    def read_classes(self, path: str | Path) -> np.ndarray:
        """Reads a label map as class indices in its own size; see `read_label`."""
        if self.label_set is not None:
            return self.label_set.apply(self.read_published(path), path)
        stored = read_stored(path, upright=True, num_classes=len(self.classes))
        if ((stored >= len(self.classes)) & (stored != IGNORE)).any():
            raise out_of_range(path, stored, self.name, len(self.classes))
        return stored

    def read_published(self, path: str | Path) -> np.ndarray:
        """Reads a label map of a release as it is stored, uint8 (H, W).

        Raises:
            UserError: See `read_label`; or the values cannot be those of the release.
        """
        assert self.label_set is not None
        return read_stored(path, num_classes=len(self.label_set.fine_names))


def list_checksum(names: Iterable[str]) -> str:
    """SHA-256, as hexadecimal text, of names in their order, one a line."""
    return hashlib.sha256(name_bytes("".join(f"{name}\n" for name in names))).hexdigest()
