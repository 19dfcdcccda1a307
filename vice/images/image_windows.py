"""Sizes of image files by their headers, and windows of large ones that a scale is stated for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vice.images.reading import Reading
from vice.images.refusals import ImageError, reasons
from vice.images.stored_samples import header_size, open_windows
from vice.images.tiff_pages import TiffSamples


@dataclass(frozen=True)
class ImageWindows:
    """A TIFF file of which windows are read and scaled, of any size and number of bands."""

    samples: TiffSamples
    reading: Reading
    path: Path

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.samples.size

    @property
    def held(self) -> int:
        """Bytes that reading takes: of one tile or strip, stored, decoded and scaled."""
        segment = self.samples.segment
        a_pixel = 3 * self.samples.bands * self.samples.dtype.itemsize
        return segment[0] * segment[1] * a_pixel

    def read(self, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        """Some rows and columns, uint8 (h, w, 3).

        Raises:
            ImageError: A tile cannot be decoded.
        """
        chosen = [band - 1 for band in self.reading.bands] or None
        with reasons(self.path):
            pixels = self.reading.scaled(self.samples.read(rows, columns, chosen))
        return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def open_image_windows(path: str | Path, reading: Reading, least_bytes: int) -> ImageWindows | None:
    """Windows of a file.

    Args:
        path: Of the file.
        reading: As in `read_image`.
        least_bytes: How large its pixels must be (3 bytes each), for it to be worth it.

    Returns:
        None for another file than a TIFF, a small one, and one that is read as a whole: turned,
        with an alpha, compressed with loss.

    Raises:
        ImageError: Its samples are of another kind than the reading's.
    """
    with reasons(path):
        samples = open_windows(path, reading.page)
        if samples is None or 3 * samples.size[0] * samples.size[1] < least_bytes:
            return None
        reading.check(samples.dtype.name, samples.bands)
        return ImageWindows(samples, reading, Path(path))


def image_header(
    path: str | Path, reading: Reading | None = None, max_pixels: int | None = None
) -> tuple[tuple[int, int], int]:
    """Height and width of a file as stored, and its orientation (1 to 8).

    Raises:
        ImageError: As `read_image`, where that is seen so.
    """
    with reasons(path):
        return header_size(path, 1 if reading is None else reading.page, max_pixels)


def stored_size(
    path: str | Path, reading: Reading | None = None, max_pixels: int | None = None
) -> tuple[int, int] | None:
    """Height and width of a file by its header; None where only decoding says what is wrong."""
    try:
        with reasons(path):
            page = 1 if reading is None else reading.page
            return header_size(path, page, max_pixels, turn=False)[0]
    except ImageError:
        return None
