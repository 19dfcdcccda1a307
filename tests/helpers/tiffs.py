"""TIFF files of any layout, honest or not, as bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

_TYPES = {"H": (3, "H"), "I": (4, "I"), "B": (2, "s")}


def tiff(
    array: np.ndarray,
    photometric: int | None,
    *,
    extra: tuple[int, ...] = (),
    bits: int | None = None,
    planar: int = 1,
    big_endian: bool = False,
    tags: dict[int, tuple[int, ...]] | None = None,
    pages: int = 1,
    further: Sequence[np.ndarray] = (),
    compression: str | None = None,
    predictor: bool = False,
    tile: int | None = None,
    rows: int | None = None,
) -> bytes:
    """A TIFF, by default uncompressed and of one strip a plane.

    Args:
        array: (H, W) or (H, W, C) of any real or complex number type.
        photometric: PhotometricInterpretation; None leaves the tag out.
        extra: ExtraSamples; empty leaves the tag out.
        bits: BitsPerSample that is stated; by default that of the array. 12 packs the samples.
        planar: PlanarConfiguration.
        big_endian: Byte order.
        tags: Further tags with their 16-bit values.
        pages: How often the page is repeated.
        further: Pages of the same kind after it.
        compression: ``"zlib"`` or ``"lzw"``.
        predictor: Whether differences between neighbours are stored.
        tile: Side of tiles; None: strips.
        rows: Of a strip; None: all.
    """
    order = ">" if big_endian else "<"
    samples = array if array.ndim == 3 else array[:, :, None]
    height, width, bands = samples.shape
    kind = {"u": 1, "i": 2, "f": 3, "c": 6}[array.dtype.kind]
    depth = bits or 8 * array.dtype.itemsize
    segment = (tile, tile) if tile else (rows or height, width)
    file = bytearray(b"MM\0*" if big_endian else b"II*\0") + struct.pack(f"{order}I", 0)
    link = 4
    for page in [array] * pages + list(further):
        samples = page if page.ndim == 3 else page[:, :, None]
        planes = [samples] if planar == 1 else [samples[..., k : k + 1] for k in range(bands)]
        strips = [
            _compressed(_packed(_differences(part, predictor), depth, order), compression)
            for plane in planes
            for part in _segments(plane, segment, padded=tile is not None)
        ]
        offsets = []
        for strip in strips:
            offsets.append(len(file))
            file += strip + b"\0" * (len(strip) % 2)
        entries: dict[int, tuple[str, tuple[int, ...]]] = {
            256: ("I", (width,)),
            257: ("I", (height,)),
            258: ("H", (depth,) * bands),
            259: ("H", ({None: 1, "lzw": 5, "zlib": 8}[compression],)),
            277: ("H", (bands,)),
            284: ("H", (planar,)),
            339: ("H", (kind,) * bands),
        }
        if tile:
            entries |= {322: ("I", (tile,)), 323: ("I", (tile,))}
        else:
            entries[278] = ("I", (segment[0],))
        entries[324 if tile else 273] = ("I", tuple(offsets))
        entries[325 if tile else 279] = ("I", tuple(map(len, strips)))
        if predictor:
            entries[317] = ("H", (2,))
        if photometric is not None:
            entries[262] = ("H", (photometric,))
        if extra:
            entries[338] = ("H", extra)
        entries.update({tag: ("H", values) for tag, values in (tags or {}).items()})
        link = _add_page(file, entries, link, order)
    return bytes(file)


def _segments(plane: np.ndarray, size: tuple[int, int], *, padded: bool) -> Iterator[np.ndarray]:
    for top in range(0, plane.shape[0], size[0]):
        for left in range(0, plane.shape[1], size[1]):
            part = plane[top : top + size[0], left : left + size[1]]
            gaps = [(0, whole - there) for whole, there in zip(size, part.shape, strict=False)]
            yield np.pad(part, [*gaps, (0, 0)]) if padded else part


def _differences(part: np.ndarray, wanted: bool) -> np.ndarray:
    if not wanted:
        return part
    before = np.zeros_like(part)
    before[:, 1:] = part[:, :-1]
    return part - before


def _compressed(data: bytes, compression: str | None) -> bytes:
    if compression is None:
        return data
    return zlib.compress(data) if compression == "zlib" else _lzw(data)


def _lzw(data: bytes) -> bytes:
    """LZW of single bytes: the table is cleared before it needs codes of more than nine bits."""
    codes = []
    for start in range(0, max(1, len(data)), 200):
        codes += [256, *data[start : start + 200]]
    bits = (np.array([*codes, 257])[:, None] >> np.arange(8, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8).ravel()).tobytes()


def _packed(plane: np.ndarray, depth: int, order: str) -> bytes:
    if depth != 12:
        return np.ascontiguousarray(plane).astype(plane.dtype.newbyteorder(order)).tobytes()
    rows = []
    for row in plane.reshape(len(plane), -1).astype(np.uint16):
        binary = (row[:, None] >> np.arange(11, -1, -1)) & 1
        rows.append(np.packbits(binary.astype(np.uint8).ravel()).tobytes())
    return b"".join(rows)


def _add_page(
    file: bytearray, entries: dict[int, tuple[str, tuple[int, ...]]], link: int, order: str
) -> int:
    """Appends a directory, points to it from the previous one, returns where the next is linked."""
    records = []
    for tag, (code, values) in sorted(entries.items()):
        number, letter = _TYPES[code]
        data = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(data) > 4:
            offset = len(file)
            file += data
            data = struct.pack(f"{order}I", offset)
        records.append(struct.pack(f"{order}HHI", tag, number, len(values)) + data.ljust(4, b"\0"))
    file += b"\0" * (len(file) % 2)
    struct.pack_into(f"{order}I", file, link, len(file))
    file += struct.pack(f"{order}H", len(records)) + b"".join(records)
    file += struct.pack(f"{order}I", 0)
    return len(file) - 4
