"""Pictures of every kind that Pillow writes, as the bytes of their files."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

SIZE = (40, 30)


def picture(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> Image.Image:
    """An RGB picture of coloured blocks, (width, height)."""
    blocks = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _modes(mode: str, kind: str, **options: object) -> Callable[[np.random.Generator], bytes]:
    return lambda rng: encode(picture(rng).convert(mode), kind, **options)


def _deep(rng: np.random.Generator) -> bytes:
    return encode(Image.fromarray(rng.integers(0, 65536, SIZE[::-1], dtype=np.uint16)), "PNG")


def _float(rng: np.random.Generator) -> bytes:
    values = rng.random(SIZE[::-1], np.float32)
    values[0, 0] = 1
    return encode(Image.fromarray(values), "TIFF")


def _animated(kind: str) -> Callable[[np.random.Generator], bytes]:
    def make(rng: np.random.Generator) -> bytes:
        frames = [picture(rng) for _ in range(3)]
        return encode(frames[0], kind, save_all=True, append_images=frames[1:])

    return make


def _palette(rng: np.random.Generator) -> bytes:
    image = picture(rng).convert("P")
    return encode(image, "PNG", transparency=bytes(range(256)))


def _upright(orientation: int) -> Callable[[np.random.Generator], bytes]:
    def make(rng: np.random.Generator) -> bytes:
        exif = Image.Exif()
        exif[274] = orientation
        return encode(picture(rng), "JPEG", exif=exif.tobytes())

    return make


def with_exif(rng: np.random.Generator, exif: bytes) -> bytes:
    """A JPEG with any EXIF block."""
    return encode(picture(rng), "JPEG", exif=b"Exif\x00\x00" + exif)


#: Suffix and content by name; all are sound.
SOUND: dict[str, tuple[str, Callable[[np.random.Generator], bytes]]] = {
    "jpeg": (".jpg", _modes("RGB", "JPEG")),
    "jpeg-progressive": (".jpeg", _modes("RGB", "JPEG", progressive=True)),
    "jpeg-grey": (".JPG", _modes("L", "JPEG")),
    "jpeg-cmyk": (".jpg", _modes("CMYK", "JPEG")),
    "jpeg-broken-icc": (".jpg", _modes("RGB", "JPEG", icc_profile=b"no profile")),
    "png": (".png", _modes("RGB", "PNG")),
    "png-bit": (".png", _modes("1", "PNG")),
    "png-grey-alpha": (".png", _modes("LA", "PNG")),
    "png-alpha": (".png", _modes("RGBA", "PNG")),
    "png-palette-alpha": (".png", _palette),
    "png-16-bit": (".png", _deep),
    "png-animated": (".png", _animated("PNG")),
    "png-broken-icc": (".png", _modes("RGB", "PNG", icc_profile=b"no profile")),
    "gif-animated": (".gif", _animated("GIF")),
    "webp": (".webp", _modes("RGB", "WEBP")),
    "webp-animated": (".webp", _animated("WEBP")),
    "tiff-float": (".tif", _float),
    "tiff-lzw": (".tiff", _modes("RGB", "TIFF", compression="tiff_lzw")),
    "tiff-pages": (".tif", _animated("TIFF")),
    "tiff-cmyk": (".tif", _modes("CMYK", "TIFF")),
    "bmp": (".bmp", _modes("RGB", "BMP")),
    "ppm": (".ppm", _modes("RGB", "PPM")),
    "pgm": (".pgm", _modes("L", "PPM")),
    **{f"jpeg-orientation-{n}": (".jpg", _upright(n)) for n in (*range(1, 9), 0, 9)},
}


def huge_png(width: int, height: int, *, data: bytes = b"") -> bytes:
    """A PNG of few bytes whose header promises any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
