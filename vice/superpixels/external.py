"""External region maps: files that another program made, for example masks of a model."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from vice.errors import OptionError, UserError
from vice.images import ImageError
from vice.images.picture_formats import open_picture
from vice.nearest import near_path
from vice.runtime.numpy_files import open_npz, read_npy
from vice.superpixels.region_ids import relabel

SUFFIXES = (".png", ".npz", ".npy")


class RegionFiles:
    """A folder with a region map for each image.

    The map of ``a/b/NAME.jpg`` is ``FOLDER/NAME.png`` (or ``.npz`` or ``.npy``); where folders of
    images hold equal names, ``FOLDER/b/NAME.png`` or ``FOLDER/a/b/NAME.png``, looked for first. It
    has the size of the image in its file, upright as its EXIF orientation says.

    Args:
        folder: The folder.
        what: What its files are, for messages.

    Raises:
        UserError: None is given, or it is not there.
    """

    def __init__(self, folder: str | Path | None, what: str = "region map") -> None:
        if folder is None:
            raise OptionError(
                "superpixels: method 'files' needs the folder of the maps: set "
                "{Superpixels.folder}=FOLDER"
            )
        self.folder = Path(folder)
        self.what = what
        # Path length: os.path has an answer for names too long for the disk, too; Path raises.
        if not os.path.isdir(self.folder):
            owner = "superpixels: " if what == "region map" else ""
            raise UserError(f"{owner}folder {folder} of {what}s does not exist{near_path(folder)}")

    def find(self, image: str | Path) -> Path:
        """The map of an image.

        Raises:
            ImageError: There is none; names where it was looked for.
        """
        name = Path(image).with_suffix("")
        for above in (name.parts[-3:-1], name.parts[-2:-1], ()):
            for suffix in SUFFIXES:
                path = self.folder.joinpath(*(p for p in above if p != name.anchor))
                path = path / f"{name.name}{suffix}"
                if os.path.isfile(path):
                    return path
        raise ImageError(
            f"{image}: no {self.what} {self.folder / name.name}.png (or "
            f"{', '.join(SUFFIXES[1:])}); make it, or leave the image out"
        )

    def read(self, image: str | Path, shape: tuple[int, int]) -> np.ndarray:
        """The map of an image, as `from_file`.

        Args:
            image: The image's file.
            shape: (H, W) of the image as it is in the file.

        Raises:
            ImageError: There is none, or it cannot be used; names its file.
        """
        return from_file(self.find(image), shape)

    def read_ids(self, image: str | Path, shape: tuple[int, int]) -> np.ndarray:
        """The same with the ids that the file has, (H, W) integers."""
        return read_ids(self.find(image), shape)


def from_file(path: str | Path, expected_shape: tuple[int, int] | None = None) -> np.ndarray:
    """Reads a region map made by another program.

    Args:
        path: Image of one channel (8-bit, 16-bit or palette; the stored numbers are the ids) or of
            8-bit RGB (id = R + 256 G + 65536 B, the code of COCO's panoptic maps); or integers
            (H, W) in a ``.npy`` file, or in a ``.npz`` file alone or under the name ``regions``.
            Negative ids mean "no region".
        expected_shape: (H, W) of the image the map belongs to.

    Returns:
        int32 (H, W), ids contiguous from 0, -1 where there is no region.

    Raises:
        ImageError: Missing, unreadable, no map of integers, or not of the expected shape.
    """
    return relabel(read_ids(path, expected_shape))


def read_ids(path: str | Path, expected_shape: tuple[int, int] | None = None) -> np.ndarray:
    """Reads the ids of a region map as they are, integers (H, W); else as `from_file`."""
    path = Path(path)
    if not os.path.isfile(path):
        raise ImageError(f"{path}: no such region map; check the path")
    try:
        # Sort key: integers of 64 bits are the widest.
        pixels = 2**27 if expected_shape is None else math.prod(expected_shape)
        labels = _load_labels(path, 8 * pixels)
    except Exception as error:  # as for images, decoders raise almost anything
        raise ImageError(f"{path}: cannot be read as a region map ({error})") from error
    if labels.dtype == bool:  # pictures of one bit a pixel
        labels = labels.astype(np.uint8)
    if labels.ndim == 3 and labels.shape[2] == 3 and labels.dtype == np.uint8:
        labels = labels.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer) or not labels.size:
        raise ImageError(
            f"{path}: a region map must be one channel of integers, (H, W), or 8-bit RGB; "
            f"this one is {labels.dtype} {labels.shape}"
        )
    if expected_shape is not None and labels.shape != tuple(expected_shape):
        raise ImageError(
            f"{path}: the region map is {labels.shape[0]} x {labels.shape[1]} pixels (H x W), its "
            f"image {expected_shape[0]} x {expected_shape[1]}; make the map from that image"
        )
    return labels


def _load_labels(path: Path, max_bytes: int) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        return read_npy(path)
    if path.suffix.lower() == ".npz":
        with open_npz(path, max_bytes) as archive:
            names = ["regions"] if "regions" in archive.files else archive.files
            if len(names) != 1:
                raise ValueError(f"it holds {', '.join(names) or 'nothing'}, and no 'regions'")
            return archive[names[0]]
    with open_picture(path) as image:
        return np.array(image)
