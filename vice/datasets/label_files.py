"""Label maps as files: what may stand in one, and how its pixels lie over those of its image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vice.datasets.split_files import DESCRIBE
from vice.errors import UserError
from vice.images.picture_formats import open_picture
from vice.images.stored_order import oriented
from vice.labels import IGNORE

EXIF_ORIENTATION = 274
#: Formats that give back the very values that were written.
_LOSSLESS = ("BMP", "GIF", "PNG", "PPM", "TIFF")
#: Sides of a label map that was scaled by whole pixels; one that was turned or cut is beyond it.
_SAME_RATIO = 1.05
_REMEDY = "save it as PNG, 8-bit grey, with the class index as the value of each pixel"
#: Pixel formats that may be labels of a set that is described, to their name.
DESCRIBABLE = {
    "1": "1-bit grey",
    "I": "32-bit grey",
    "I;16": "16-bit grey",
    "I;16B": "16-bit grey",
    "I;16L": "16-bit grey",
    "LA": "grey with transparency",
    "RGB": "RGB",
    "RGBA": "RGB with transparency",
}


@dataclass(frozen=True)
class Geometry:
    """How the pixels of a file lie.

    Attributes:
        size: Width and height as they are stored.
        orientation: EXIF orientation, 1 to 8; 1 where there is none.
    """

    size: tuple[int, int]
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height once the file is turned as its EXIF orientation says."""
        return self.size[::-1] if self.orientation >= 5 else self.size


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """Opens an image file; whatever is wrong with it becomes a `UserError` that names it."""
    try:
        with open_picture(path) as image:
            yield image
    except UserError:
        raise
    # Catch-all: decoders meet broken bytes with almost any exception, as in `images.read_image`.
    except Exception as error:
        raise UserError(f"{path}: cannot be read as an image ({error})") from error


def geometry(path: Path, *, label: bool = False) -> Geometry:
    """Reads the header of an image, or of a label map, which must be one.

    Raises:
        UserError: The file cannot be read, or is no label map (see `read_stored`).
    """
    with opened(path) as image:
        if label:
            check_header(path, image)
        return _geometry(image)


def _geometry(image: Image.Image) -> Geometry:
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    # EXIF orientation: viewers, and Pillow, leave pixels alone under numbers that it does not have.
    orientation = orientation if orientation in range(1, 9) else 1
    # TIFF orientation: Pillow turns one while reading; its header gives the turned size already.
    turned = image.format == "TIFF" and orientation >= 5
    return Geometry(image.size[::-1] if turned else image.size, orientation)


def check_alignment(
    image: Path,
    label: Path,
    *,
    upright: bool,
    resizable: bool = False,
    of_image: Geometry | None = None,
) -> bool:
    """Sees to it that the pixels of a label map are those of its image.

    A file is turned as its own EXIF orientation says. A photograph with an orientation and a label
    map without one go together only where the sizes show that the label map was drawn on the
    upright photograph; otherwise nothing tells which way it lies.

    Args:
        image: An image file.
        label: Its label map.
        upright: False where both are read as they are stored, whatever EXIF says.
        resizable: Whether a label map of the same shape in another size will do, see `same_shape`;
            for files that are read as stored.
        of_image: Of the image, where it is known already.

    Returns:
        Whether the label map is to be resized.

    Raises:
        UserError: A file cannot be read, sizes differ, or the EXIF orientations leave it open how
            the two lie over each other.
    """
    of_image, of_label = of_image or geometry(image), geometry(label, label=True)
    if not upright:
        if resizable and same_shape(of_label.size, of_image.size):
            return of_label.size != of_image.size
        check_same_size(image, label, of_image.size, of_label.size)
        return False
    turned = of_image.orientation
    if of_label.orientation not in (1, turned):
        raise UserError(
            f"{label}: has the EXIF orientation {of_label.orientation}, but its image {image} has "
            f"{turned}: save both upright and without EXIF"
        )
    if turned == 1 or of_label.orientation == turned:
        check_same_size(image, label, of_image.upright, of_label.upright)
        return False
    told_apart = of_image.upright != of_image.size
    if told_apart and of_label.size == of_image.upright:
        return False
    as_stored = of_label.size == of_image.size
    if not as_stored:
        check_same_size(image, label, of_image.upright, of_label.size)
    raise UserError(
        f"{label}: its image {image} has the EXIF orientation {turned}, and the label map has none"
        + (", but the size of the pixels as stored" if told_apart else "")
        + ": if it belongs to the pixels as stored, remove the EXIF orientation of the image; if "
        "it belongs to what viewers show, save the image upright"
    )


def same_shape(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes differ by scale and rounding alone: sides in one ratio, within 5 %."""
    a, b = first[0] * second[1], first[1] * second[0]
    return max(a, b) <= _SAME_RATIO * min(a, b)


def resize_nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a label map to the nearest pixel.

    Args:
        labels: uint8 (H, W).
        size: Height and width.

    Returns:
        uint8, of that size.
    """
    return np.array(Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST))


def check_same_size(
    image: Path, label: Path, size: tuple[int, int], of_label: tuple[int, int]
) -> None:
    """Raises a `UserError` where the sizes of a label map and of its image differ."""
    if size != of_label:
        raise UserError(
            f"{label}: {of_label[0]}x{of_label[1]} pixels, but its image {image} has "
            f"{size[0]}x{size[1]}; they must match"
        )


def read_stored(
    path: str | Path, *, upright: bool = False, num_classes: int | None = None
) -> np.ndarray:
    """Reads a label map as it is stored.

    Args:
        path: The file.
        upright: Whether it is turned as its EXIF orientation says.
        num_classes: Number of classes, where stored values are their indices: then a palette is
            looked at, too.

    Returns:
        uint8 (H, W); of a palette image the indices.

    Raises:
        UserError: The file cannot be read, is not 8-bit grey or palette, or its values may not be
            those that were written: a lossy format, stretched bits, or a palette that may have
            taken the place of grey values.
    """
    with opened(path) as image:
        check_header(path, image)
        palette = image.getpalette("RGB") if image.mode == "P" else None
        # Palette: Pillow keeps it where it turns an image.
        stored = np.array(oriented(image, upright=upright))
    if palette and num_classes is not None:
        _check_palette(path, np.array(palette, np.uint8).reshape(-1, 3), stored, num_classes)
    return stored


def check_header(path: str | Path, image: Image.Image) -> None:
    """Raises a `UserError` where a file cannot be a label map by its header."""
    if image.mode not in ("L", "P"):
        known = DESCRIBABLE.get(image.mode)
        named = f" ({known})" if known else ""
        remedy = f": save it so, or, of data of your own, {DESCRIBE}" if known else ""
        raise UserError(
            f"{path}: pixel format {image.mode!r}{named}; a label map must be 8-bit grey or "
            f"palette, holding an index for each pixel{remedy}"
        )
    if image.format not in _LOSSLESS:
        raise UserError(
            f"{path}: is a {image.format} file, which may change the values of pixels when it is "
            "saved: make the label map again from its source, as PNG"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise UserError(f"{path}: holds {frames} frames; a label map has one: {_REMEDY}")
    raw = raw_mode(image)
    if image.mode == "L" and raw.startswith("L;") and raw != "L;16B":
        raise UserError(
            f"{path}: grey of {raw.removeprefix('L;')} bits, which readers stretch to 0-255: "
            f"{_REMEDY}, or {DESCRIBE}"
        )


def raw_mode(image: Image.Image) -> str:
    """How the pixels of an open file are stored, as Pillow names it; empty where it does not."""
    tiles = getattr(image, "tile", None)
    raw = tiles[0].args if tiles else None
    raw = raw[0] if isinstance(raw, tuple) and raw else raw
    return raw if isinstance(raw, str) else ""


def _check_palette(
    path: str | Path, colors: np.ndarray, stored: np.ndarray, num_classes: int
) -> None:
    """Refuses a palette that may be grey values which a program has numbered anew.

    Programs that shrink PNGs give a grey image of few values a palette of these values.
    """
    used = np.unique(stored)
    used = used[used < len(colors)]
    shown = colors[used]
    values = shown[:, 0]
    if (shown != shown[:, :1]).any() or (values == used).all():
        return
    classes = values[values != IGNORE]
    # Binary mask: black and white are two classes; read by grey value one is left, and void.
    if len(set(classes.tolist())) >= 2 and (classes < num_classes).all():
        index = int(np.flatnonzero(values != used)[0])
        raise UserError(
            f"{path}: its palette shows index {used[index]} as grey {values[index]}, and both are "
            f"classes: {_REMEDY}, or {DESCRIBE}"
        )
