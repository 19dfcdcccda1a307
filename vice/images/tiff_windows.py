"""Windows of a TIFF file that is too large to be held, by its tiles or strips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vice.errors import UserError
from vice.images.tiff_layout import objection, read_layout

EXTRA = "pip install tifffile"
_GRAY, _RGB = 1, 2


class TiffWindows:
    """A TIFF file of 8-bit gray or RGB, of which windows are read.

    Args:
        path: Of the file.
        page: Its first page, as tifffile has it.
        file: Open.
    """

    def __init__(self, path: str | Path, page: Any, file: Any) -> None:
        self.path, self._page, self._file = path, page, file
        self.size = (int(page.imagelength), int(page.imagewidth))
        if page.is_tiled:
            self._segment = (int(page.tilelength), int(page.tilewidth))
        else:
            self._segment = (min(int(page.rowsperstrip), self.size[0]), self.size[1])
        self._across = -(-self.size[1] // self._segment[1])

    @classmethod
    def of(cls, path: str | Path, least_bytes: int) -> TiffWindows | None:
        """Windows of a file.

        Args:
            path: Of the file.
            least_bytes: How large its pixels must be (3 bytes each), for it to be worth it.

        Returns:
            None for another file, a small one, or one that is read as a whole: other than 8 bits,
            turned, with alpha, in planes.

        Raises:
            UserError: It is worth it, and tifffile is not installed.
        """
        try:
            layout = read_layout(path)
        except OSError:
            return None
        if layout is None or objection(layout) is not None:
            return None
        size = layout.size
        if 3 * size[0] * size[1] < least_bytes:
            return None
        plain = layout.depth == 8 and layout.photometric in (_GRAY, _RGB) and not layout.extra
        if not plain or layout.orientation != 1 or (layout.planar == 2 and layout.bands > 1):
            return None
        try:
            import tifffile
        except ImportError as error:
            raise UserError(
                f"{path}: reading a part of a TIFF of {size[1]} x {size[0]} pixels needs tifffile: "
                f"{EXTRA}"
            ) from error
        file = tifffile.TiffFile(path)
        return cls(path, file.pages[0], file)

    @property
    def held(self) -> int:
        """Bytes that reading takes: of one tile or strip, stored and decoded."""
        return 2 * self._segment[0] * self._segment[1] * int(self._page.samplesperpixel)

    def read(self, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        """Some rows and columns, uint8 (h, w, 3).

        Raises:
            UserError: A tile cannot be decoded.
        """
        high, wide = self._segment
        pixels = np.zeros((rows[1] - rows[0], columns[1] - columns[0], 3), np.uint8)
        for row in range(rows[0] // high, -(-rows[1] // high)):
            for column in range(columns[0] // wide, -(-columns[1] // wide)):
                part = self._decoded(row * self._across + column)
                if part is None:
                    continue
                top, left = row * high, column * wide
                y = max(rows[0], top), min(rows[1], top + part.shape[0])
                x = max(columns[0], left), min(columns[1], left + part.shape[1])
                pixels[y[0] - rows[0] : y[1] - rows[0], x[0] - columns[0] : x[1] - columns[0]] = (
                    part[y[0] - top : y[1] - top, x[0] - left : x[1] - left]
                )
        return pixels

    def _decoded(self, index: int) -> np.ndarray | None:
        """A tile, (h, w, 1 or 3); None for one that is not stored."""
        page = self._page
        handle = page.parent.filehandle
        try:
            handle.seek(page.dataoffsets[index])
            data = handle.read(page.databytecounts[index])
            tables = page.tags.valueof(347)
            part, _, _ = page.decode(data, index, jpegtables=tables)
        # Catch-all: decoders meet broken bytes with errors of all kinds.
        except Exception as error:
            raise UserError(
                f"{self.path}: tile {index} cannot be decoded ({error}); tifffile decodes some "
                "compressions with `pip install imagecodecs` only"
            ) from error
        return None if part is None else np.asarray(part)[0]
