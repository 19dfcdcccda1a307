"""What a user gives as an image: its size, and its pixels window by window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vice.errors import UserError
from vice.images import Reading, decode_image, upright_rgb
from vice.images.image_windows import open_image_windows, stored_size
from vice.images.tiff_windows import TiffWindows
from vice.paths import from_home
from vice.predictor.pixels import rgb_of_array
from vice.runtime.amounts import in_words

if TYPE_CHECKING:
    from PIL import Image

    Picture: TypeAlias = np.ndarray | str | Path | Image.Image

#: Bytes for each pixel while Pillow decodes a file, and of what is kept of it.
DECODING, KEPT = 7, 3
#: The same for each value that is scaled, beside twice its own.
_SCALING = 2


@dataclass(frozen=True)
class Given:
    """An image.

    Attributes:
        size: H and W.
        read: Gives rows and columns, uint8 (h, w, 3).
        held: Bytes that it keeps, of those that a user has allowed.
        name: For messages.
        outside: How many of its values the scale of the model leaves out.
        values: How many there are; 0 without a scale, and of windows.
        notes: What was passed over or converted while a file was decoded.
    """

    size: tuple[int, int]
    read: Callable[[tuple[int, int], tuple[int, int]], np.ndarray]
    held: int
    name: object
    outside: int = 0
    values: int = 0
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> np.ndarray:
        """All of it."""
        return self.read((0, self.size[0]), (0, self.size[1]))


def given_image(
    image: Any,
    *,
    budget: int | None = None,
    max_pixels: int | None = None,
    reading: Reading | None = None,
) -> Given:
    """An image of any kind that `vice.Predictor.embed` takes.

    Args:
        image: As there, or what this has returned.
        budget: Bytes that it may take, or None: a tiled TIFF is then left on the disk.
        max_pixels: Most pixels of a file that is decoded as a whole.
        reading: How the model's images are read; None as 8-bit RGB.

    Raises:
        UserError: It is none, it cannot be read, or there is too little memory to decode it.
    """
    if isinstance(image, Given):
        return image
    if isinstance(image, str | Path):
        return _file(from_home(image), budget, max_pixels, reading)
    if hasattr(image, "getexif"):
        return _array(upright_rgb(image, reading), "the image")
    return _array(rgb_of_array(image, reading), "the image")


def given_pixels(pixels: np.ndarray, name: object = "the image") -> Given:
    """Pixels that have been read already, uint8 (H, W, 3), whatever the model's images are."""
    return _array(pixels, name)


def _array(pixels: np.ndarray, name: object, held: int = 0, **read_as: Any) -> Given:
    def read(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        return pixels[slice(*rows), slice(*columns)]

    return Given((pixels.shape[0], pixels.shape[1]), read, held, name, **read_as)


def _file(
    path: str | Path, budget: int | None, max_pixels: int | None, reading: Reading | None
) -> Given:
    if budget is not None:
        windows = _windows(path, KEPT * budget // (2 * DECODING), reading)
        if windows is not None:
            return windows
        _check_decoding(path, budget, max_pixels, reading)
    decoded = decode_image(path, max_pixels=max_pixels, reading=reading)
    held = KEPT * decoded.pixels.shape[0] * decoded.pixels.shape[1]
    read_as = {"outside": decoded.outside, "values": decoded.values, "notes": decoded.notes}
    return _array(decoded.pixels, path, held, **read_as)


def _windows(path: str | Path, least_bytes: int, reading: Reading | None) -> Given | None:
    """A large file of which parts can be read; None for all others."""
    if reading is None:
        tiff = TiffWindows.of(path, least_bytes)
        return None if tiff is None else Given(tiff.size, tiff.read, tiff.held, path)
    found = open_image_windows(path, reading, least_bytes)
    return None if found is None else Given(found.size, found.read, found.held, path)


def _check_decoding(
    path: str | Path, budget: int, max_pixels: int | None, reading: Reading | None
) -> None:
    """Refuses a file that takes more memory than there is, before a pixel is decoded."""
    size = stored_size(path, reading, max_pixels)
    if size is None:
        return
    a_pixel = DECODING
    if reading is not None:
        width = np.dtype(reading.samples).itemsize
        a_pixel = KEPT + (2 * width + _SCALING) * max(len(reading.black), 1)
    taken = a_pixel * size[0] * size[1]
    if taken > budget:
        raise UserError(
            f"{path}: decoding it takes {in_words(taken)}, more than the memory of "
            f"{in_words(budget)}; give more, or write it as a tiled TIFF of 8 bits"
        )
