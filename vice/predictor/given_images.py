"""What a user gives as an image: its size, and its pixels window by window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vice.errors import UserError
from vice.images import read_image, upright_rgb
from vice.images.tiff_windows import TiffWindows
from vice.predictor.memory import in_words
from vice.predictor.pixels import rgb_of_array

if TYPE_CHECKING:
    from PIL import Image

    Picture: TypeAlias = np.ndarray | str | Path | Image.Image

#: Bytes for each pixel while Pillow decodes a file, and of what is kept of it.
DECODING, KEPT = 7, 3


@dataclass(frozen=True)
class Given:
    """An image.

    Attributes:
        size: H and W.
        read: Gives rows and columns, uint8 (h, w, 3).
        held: Bytes that it keeps, of those that a user has allowed.
        name: For messages.
    """

    size: tuple[int, int]
    read: Callable[[tuple[int, int], tuple[int, int]], np.ndarray]
    held: int
    name: object

    @property
    def pixels(self) -> np.ndarray:
        """All of it."""
        return self.read((0, self.size[0]), (0, self.size[1]))


def given_image(image: Any, *, budget: int | None = None, max_pixels: int | None = None) -> Given:
    """An image of any kind that `vice.Predictor.embed` takes.

    Args:
        image: As there.
        budget: Bytes that it may take, or None: a tiled TIFF is then left on the disk.
        max_pixels: Most pixels of a file that is decoded as a whole.

    Raises:
        UserError: It is none, it cannot be read, or there is too little memory to decode it.
    """
    if isinstance(image, str | Path):
        return _file(image, budget, max_pixels)
    if hasattr(image, "getexif"):
        return _array(upright_rgb(image), "the image")
    return _array(rgb_of_array(image), "the image")


def _array(pixels: np.ndarray, name: object, held: int = 0) -> Given:
    def read(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        return pixels[slice(*rows), slice(*columns)]

    return Given((pixels.shape[0], pixels.shape[1]), read, held, name)


def _file(path: str | Path, budget: int | None, max_pixels: int | None) -> Given:
    if budget is not None:
        tiff = TiffWindows.of(path, KEPT * budget // (2 * DECODING))
        if tiff is not None:
            return Given(tiff.size, tiff.read, tiff.held, path)
    pixels = read_image(path, max_pixels=max_pixels)
    held = KEPT * pixels.shape[0] * pixels.shape[1]
    if budget is not None and held * DECODING // KEPT > budget:
        raise UserError(
            f"{path}: decoding it took {in_words(held * DECODING / KEPT)}, more than the memory of "
            f"{in_words(budget)}; give more, or write it as a tiled TIFF of 8 bits"
        )
    return _array(pixels, path, held)
