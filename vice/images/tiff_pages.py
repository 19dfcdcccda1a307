"""Pages of a TIFF file: their tags, and their samples as they are stored, window by window.

Pillow and OpenCV know a few combinations of bands, bits and planes; satellites and microscopes
write all others. Samples that are compressed without loss are decoded here whatever they mean: the
codec is libtiff's, by Pillow, on one tile or strip at a time, and what lies around it is
arithmetic.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from vice.images.tiff_layout import MAGIC, TiffLayout, first_directory, layout_of
from vice.runtime.regular_file import open_regular

#: Pages that are looked for at the most: a chain of directories may be a loop, or a lie.
MOST_PAGES = 65_536
_WIDTH, _HEIGHT, _COMPRESSION, _OFFSETS, _BYTES = 256, 257, 259, 273, 279
_ROWS, _PREDICTOR, _FILL_ORDER = 278, 317, 266
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
#: Stored as it is; deflate (old and new); and what libtiff undoes: LZW, PackBits, LZMA, Zstandard.
_PLAIN, _DEFLATE, _LIBTIFF = 1, (8, 32946), (5, 32773, 34925, 50000)
_GRAY_PHOTOMETRICS, _RGB = (0, 1), 2
#: Bits of a sample by SampleFormat: unsigned (4: untyped is read as that), signed, floating point.
_BITS = {1: (8, 10, 12, 14, 16, 32), 4: (8, 16), 2: (8, 16, 32), 3: (16, 32, 64)}
_KINDS = {1: "u", 4: "u", 2: "i", 3: "f"}
_REDUCED_OR_MASK = 5
#: Pixels that a tile may have in any image.
_LEAST_SEGMENT = 2**22
#: First one, and the one after the last.
Span: TypeAlias = tuple[int, int]


class UnreadableTiff(ValueError):
    """Samples that are stored in a way that is not read; the message says which."""


@dataclass(frozen=True)
class TiffPage:
    """One page.

    Attributes:
        tags: By number.
        little: Whether its numbers begin with the low byte.
        number: Of its directory in the file, from 0.
    """

    tags: Mapping[int, Any]
    little: bool
    number: int = 0

    @property
    def layout(self) -> TiffLayout:
        """What its tags say of its samples."""
        return layout_of(self.tags)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as stored."""
        return int(self.tags[_HEIGHT]), int(self.tags[_WIDTH])

    @property
    def is_image(self) -> bool:
        """Whether it is no smaller copy and no mask of another page."""
        return not int(self.tags.get(254, 0)) & _REDUCED_OR_MASK


def read_pages(path: str | Path) -> list[TiffPage] | None:
    """The pages of a file that are images of their own, in order; None where it is no TIFF.

    Raises:
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        if file.read(4) not in MAGIC:
            return None
        file.seek(0)
        pages = list(_directories(file))
    return [page for page in pages if page.is_image] or pages or None


def _directories(file: BinaryIO) -> Iterator[TiffPage]:
    directory = first_directory(file)
    little = bool(directory.prefix == b"II")
    seen: set[int] = set()
    while directory.next and directory.next not in seen and len(seen) < MOST_PAGES:
        seen.add(directory.next)
        file.seek(directory.next)
        try:
            directory.load(file)
            tags = dict(directory)
        # Catch-all: broken tags raise almost anything; pages before them are as good as they are.
        except Exception:
            return
        if not tags.keys() >= {_WIDTH, _HEIGHT}:
            return
        yield TiffPage(tags, little, len(seen) - 1)


class TiffSamples:
    """Samples of a page.

    Args:
        path: Of the file.
        page: One of its pages.

    Attributes:
        size: Height and width as stored.
        bands: How many samples a pixel has.
        dtype: NumPy's type of a sample; bits that fill no byte are in the next larger one.
        bits: Bits of a sample as stored.

    Raises:
        UnreadableTiff: Its samples are compressed with loss, packed or typed in a way that is not
            read, or are no gray or RGB values.
    """

    def __init__(self, path: str | Path, page: TiffPage) -> None:
        self.path, self.page, self.size = path, page, page.size
        layout, tags = page.layout, page.tags
        self.bands = layout.bands
        if len(set(layout.bits)) != 1 or len(set(layout.formats)) != 1:
            raise UnreadableTiff(f"bands of different samples (bits {layout.bits})")
        self.bits, kind = layout.bits[0], layout.formats[0]
        if self.bits not in _BITS.get(kind, ()):
            raise UnreadableTiff(f"samples of {self.bits} bits in format {kind}")
        self.dtype = np.dtype(f"{_KINDS[kind]}{1 << max(0, (self.bits - 1).bit_length() - 3)}")
        self._compression = int(tags.get(_COMPRESSION, _PLAIN))
        if self._compression not in (_PLAIN, *_DEFLATE, *_LIBTIFF):
            raise UnreadableTiff(f"compression {self._compression}")
        self._predictor = int(tags.get(_PREDICTOR, 1)) if self._compression != _PLAIN else 1
        if self._predictor not in (1, 2, 3) or (self._packed and self._predictor != 1):
            raise UnreadableTiff(f"predictor {self._predictor} of {self.bits} bits")
        if self._predictor == 3 and kind != 3:
            raise UnreadableTiff("predictor 3 of samples that are no floating point")
        if int(tags.get(_FILL_ORDER, 1)) != 1:
            raise UnreadableTiff("bits that are filled in from the right")
        if layout.photometric not in (*_GRAY_PHOTOMETRICS, _RGB):
            raise UnreadableTiff(f"PhotometricInterpretation {layout.photometric}")
        self._planes = self.bands if layout.planar == 2 else 1
        self._place_segments()

    @property
    def _packed(self) -> bool:
        return self.bits % 8 != 0

    def _place_segments(self) -> None:
        tags, (height, width) = self.page.tags, self.size
        if _TILE_OFFSETS in tags:
            self.segment = (int(tags[_TILE_HEIGHT]), int(tags[_TILE_WIDTH]))
            offsets, counts = tags[_TILE_OFFSETS], tags.get(_TILE_BYTES)
        else:
            self.segment = (min(int(tags.get(_ROWS, height)), height), width)
            offsets, counts = tags.get(_OFFSETS), tags.get(_BYTES)
        self.is_tiled = _TILE_OFFSETS in tags
        if min(*self.segment, *self.size, self.bands) < 1:
            raise UnreadableTiff("tiles or strips of no pixels")
        # A few bytes of a compressed tile may stand for gigabytes.
        if self.segment[0] * self.segment[1] > max(_LEAST_SEGMENT, 4 * self.size[0] * self.size[1]):
            raise UnreadableTiff(f"tiles of {self.segment[1]} x {self.segment[0]} pixels")
        self._offsets, self._counts = _numbers(offsets), _numbers(counts)
        self._down, self._across = (
            -(-side // part) for side, part in zip(self.size, self.segment, strict=True)
        )
        wanted = self._down * self._across * self._planes
        if len(self._offsets) < wanted or len(self._counts) < wanted:
            raise UnreadableTiff(f"{len(self._offsets)} of {wanted} tiles or strips")

    def read(
        self,
        rows: Span | None = None,
        columns: Span | None = None,
        bands: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Some rows and columns, (h, w, C), in the order in which they are stored.

        Args:
            rows: First one, and the one after the last; None: all.
            columns: The same of columns.
            bands: Which bands, from 0, in which order; None: all.

        Raises:
            ValueError: A tile or strip is cut short or cannot be decoded.
        """
        rows, columns = rows or (0, self.size[0]), columns or (0, self.size[1])
        chosen = list(range(self.bands)) if bands is None else list(bands)
        values = np.zeros((rows[1] - rows[0], columns[1] - columns[0], len(chosen)), self.dtype)
        high, wide = self.segment
        with open_regular(self.path) as file:
            for row in range(rows[0] // high, -(-rows[1] // high)):
                for column in range(columns[0] // wide, -(-columns[1] // wide)):
                    part = self._segment_bands(file, row, column, chosen)
                    y, inside_y = _overlap(rows, row * high, high)
                    x, inside_x = _overlap(columns, column * wide, wide)
                    values[y, x] = part[inside_y, inside_x]
        return values

    def _segment_bands(
        self, file: BinaryIO, row: int, column: int, chosen: list[int]
    ) -> np.ndarray:
        """Some bands of a tile or strip, (h, w, C)."""
        number = row * self._across + column
        if self._planes == 1:
            return self._decoded(file, number, row)[..., chosen]
        step = self._down * self._across
        planes = {
            band: self._decoded(file, band * step + number, row)[..., 0] for band in set(chosen)
        }
        return np.stack([planes[band] for band in chosen], axis=2)

    def _decoded(self, file: BinaryIO, number: int, row: int) -> np.ndarray:
        """A tile or strip, (h, w, bands of its plane); zeros for one that is not stored."""
        offset, length = self._offsets[number], self._counts[number]
        bands = self.bands if self._planes == 1 else 1
        height, width = self.segment
        if not self.is_tiled:
            height = min(height, self.size[0] - row * height)
        if not length:
            return np.zeros((height, width, bands), self.dtype)
        line = -(-width * bands * self.bits // 8)
        file.seek(offset)
        stored = file.read(length)
        data = self._uncompressed(stored, height, line)
        if len(data) < height * line:
            raise ValueError(
                f"tile or strip {number} ends after {len(data)} of {height * line} bytes"
            )
        raw = np.frombuffer(data, np.uint8, height * line).reshape(height, line)
        if self._packed:
            return _unpacked(raw, self.bits, width * bands).reshape(height, width, bands)
        if self._predictor == 3:
            return _float_differences(raw, self.dtype, width, bands)
        order = self.dtype.newbyteorder("<" if self.page.little else ">")
        values = raw.view(order).reshape(height, width, bands)
        if self._predictor == 2:
            # Differences are of the stored bits, whatever they mean, and wrap around.
            whole = values.astype(self.dtype).view(f"u{self.dtype.itemsize}")
            return np.cumsum(whole, axis=1, dtype=whole.dtype).view(self.dtype)
        return values

    def _uncompressed(self, data: bytes, height: int, line: int) -> bytes:
        if self._compression == _PLAIN:
            return data
        if self._compression in _DEFLATE:
            unpack = zlib.decompressobj()
            # Bound: a few bytes may stand for gigabytes.
            return unpack.decompress(data, height * line)
        return _by_libtiff(data, self._compression, height, line)


def _overlap(wanted: Span, start: int, length: int) -> tuple[slice, slice]:
    """What a segment and a span share: its place in the span, and in the segment."""
    low, high = max(wanted[0], start), min(wanted[1], start + length)
    return slice(low - wanted[0], high - wanted[0]), slice(low - start, high - start)


def _numbers(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(map(int, value)) if isinstance(value, tuple | list) else (int(value),)


def _by_libtiff(data: bytes, compression: int, height: int, line: int) -> bytes:
    """Bytes of a tile or strip, given to libtiff as a gray picture of as many bytes a row."""
    from PIL import Image
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    directory = ImageFileDirectory_v2()
    directory[256], directory[257], directory[258] = line, height, 8
    directory[259], directory[262], directory[277] = compression, 1, 1
    directory[278], directory[279], directory[273] = height, len(data), 0
    file = io.BytesIO()
    file.write(b"II*\0\x08\0\0\0")
    # Strip offset: Pillow adds where the directory ends.
    directory.save(file)
    file.write(data)
    file.seek(0)
    with Image.open(file, formats=["TIFF"]) as image:
        return image.tobytes()


def _unpacked(raw: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Samples of 10 to 14 bits, which fill no bytes, of rows that begin with one."""
    single = np.unpackbits(raw, axis=1)[:, : count * bits].reshape(len(raw), count, bits)
    weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.uint16)
    return (single * weights).sum(2, dtype=np.uint16)


def _float_differences(raw: np.ndarray, dtype: np.dtype[Any], width: int, bands: int) -> np.ndarray:
    """Predictor 3: differences of bytes, all high ones of a row before the next lower ones.

    Source: Adobe Photoshop TIFF Technical Note 3.
    """
    height, size = len(raw), dtype.itemsize
    steps = np.cumsum(raw.reshape(height, -1, bands), axis=1, dtype=np.uint8)
    planes = steps.reshape(height, size, width * bands).transpose(0, 2, 1)
    return np.ascontiguousarray(planes).view(dtype.newbyteorder(">")).reshape(height, width, bands)
