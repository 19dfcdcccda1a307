"""Image files of every kind that people have: depth, bands, planes, pages; drawn, and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tests.helpers.tiffs import tiff

DTYPES = ("uint8", "uint16", "int16", "uint32", "float16", "float32", "float64")
#: EXIF's orientations by what NumPy does to pixels that are stored so.
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.fliplr(np.rot90(a, -1)),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.fliplr(np.rot90(a)),
    8: np.rot90,
}


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        container: ``"tif"``, or ``"png"`` for gray, RGB and RGBA of 8 or 16 bits.
        dtype: Of a sample.
        bits: Of its values; 12 of uint16 with ``packed`` lie without gaps.
        bands: Samples a pixel.
        packed: See ``bits``.
        planar: Whether each band is a plane by itself.
        big_endian: Byte order.
        compression: ``"zlib"`` or ``"lzw"``; None: as it is.
        predictor: Whether differences are compressed.
        tiled: Whether in tiles, not strips.
        pages: How many.
        alpha: Whether the last band is stated to be an alpha.
        orientation: As of EXIF.
        broken: Whether some values are NaN or infinite, of floating point.
    """

    container: str = "tif"
    dtype: str = "uint16"
    bits: int = 16
    bands: int = 3
    packed: bool = False
    planar: bool = False
    big_endian: bool = False
    compression: str | None = None
    predictor: bool = False
    tiled: bool = False
    pages: int = 1
    alpha: bool = False
    orientation: int = 1
    broken: bool = False

    @property
    def span(self) -> tuple[float, float]:
        """Least and greatest value that is drawn."""
        if np.dtype(self.dtype).kind == "f":
            return -2.0, 5.0
        if self.dtype == "int16":
            return -3000.0, 20000.0
        return 0.0, float(2 ** min(self.bits, 31) - 1)


def draw_kind(rng: np.random.Generator) -> Kind:
    """A kind, all of whose parts go together."""
    chance = rng.random
    if chance() < 0.15:
        dtype = str(rng.choice(["uint8", "uint16"]))
        return Kind("png", dtype, 8 * np.dtype(dtype).itemsize, int(rng.choice([1, 3, 4])),
                    alpha=False)  # fmt: skip
    dtype = str(rng.choice(DTYPES))
    itemsize = np.dtype(dtype).itemsize
    bits = int(rng.choice([10, 12, 16])) if dtype == "uint16" else 8 * itemsize
    bands = int(rng.choice([1, 2, 3, 4, 5, 7]))
    packed = dtype == "uint16" and bits == 12 and bands == 1 and chance() < 0.5
    compression = [None, "zlib", "lzw"][int(rng.integers(3))]
    compression = None if packed else compression
    whole = dtype in ("uint8", "uint16")
    orientation = int(rng.integers(1, 9)) if chance() < 0.2 else 1
    return Kind(
        "tif", dtype, bits, bands, packed,
        planar=bands > 1 and chance() < 0.4,
        big_endian=chance() < 0.4,
        compression=compression,
        predictor=compression is not None and whole and chance() < 0.5,
        tiled=not packed and chance() < 0.4,
        pages=int(rng.integers(2, 4)) if chance() < 0.2 and orientation == 1 else 1,
        alpha=bands in (2, 4) and whole and bits in (8, 16) and chance() < 0.4,
        orientation=orientation,
        broken=dtype.startswith("float") and chance() < 0.5,
    )  # fmt: skip


def draw_samples(kind: Kind, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Stored samples of each page, (pages, H, W, bands)."""
    shape = (kind.pages, height, width, kind.bands)
    low, high = kind.span
    if np.dtype(kind.dtype).kind == "f":
        values = rng.uniform(low, high, shape).astype(kind.dtype)
        if kind.broken:
            for odd in (np.nan, np.inf, -np.inf):
                values[rng.random(shape) < 0.02] = odd
        return values
    return rng.integers(int(low), int(high), shape, endpoint=True).astype(kind.dtype)


def write_kind(path: Path, kind: Kind, samples: np.ndarray) -> Path:
    """Writes a file of a kind.

    Args:
        path: Its suffix is replaced.
        kind: The kind.
        samples: As of `draw_samples`.
    """
    path = path.with_suffix(f".{kind.container}")
    if kind.container == "png":
        order = [0] if kind.bands == 1 else [2, 1, 0, 3][: kind.bands]
        assert cv2.imwrite(str(path), np.ascontiguousarray(samples[0][..., order]))
        return path
    photometric, extra = _meaning(kind)
    pages = [page if kind.bands > 1 else page[..., 0] for page in samples]
    path.write_bytes(
        tiff(
            pages[0],
            photometric,
            extra=extra,
            bits=12 if kind.packed else None,
            planar=2 if kind.planar else 1,
            big_endian=kind.big_endian,
            tags={274: (kind.orientation,)},
            further=pages[1:],
            compression=kind.compression,
            predictor=kind.predictor,
            tile=16 if kind.tiled else None,
            rows=None if kind.packed else 5,
        )
    )
    return path


def _meaning(kind: Kind) -> tuple[int, tuple[int, ...]]:
    """PhotometricInterpretation and ExtraSamples."""
    colors = 1 if kind.bands in (1, 2) else 3
    more = kind.bands - colors
    extra = (0,) * (more - kind.alpha) + (2,) * kind.alpha
    return (1 if colors == 1 else 2), extra


def expected(
    samples: np.ndarray,
    black: tuple[float, ...],
    white: tuple[float, ...],
    alpha: np.ndarray | None = None,
) -> np.ndarray:
    """What becomes of stored samples (H, W, 1 or 3) under a scale: uint8 (H, W, 3)."""
    result = np.zeros((*samples.shape[:2], 3))
    for band in range(3):
        source = min(band, samples.shape[2] - 1)
        values = samples[..., source].astype(np.float64)
        with np.errstate(invalid="ignore"):
            level = np.rint((values - black[source]) * (255.0 / (white[source] - black[source])))
        level = np.where(np.isnan(level), 0, np.minimum(np.maximum(level, 0), 255))
        if alpha is not None:
            level = np.rint(level * alpha + 255 * (1 - alpha))
        result[..., band] = level
    return result.astype(np.uint8)
