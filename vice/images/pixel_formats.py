"""Pixels of every format to 8-bit RGB: the one place where it is decided how, or that nobody knows.

Nothing is guessed. A format is read if the file says what its samples mean; if it does not,
`UnclearPixels` says what is missing and the remedy.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vice.images.pixel_scale import (
    FULL,
    REMEDY,
    UnclearPixels,
    check_scaled_16_bit,
    scaled,
    scaled_float,
    white_of_16_bit,
)
from vice.images.stored_order import oriented
from vice.images.tiff_layout import TiffLayout

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "Decoded",
    "Source",
    "UnclearPixels",
    "decode",
    "has_16_bit_colors",
    "samples_of_16_bit",
]

_NAMES = {
    "1": "black and white",
    "L": "grey",
    "P": "palette",
    "LA": "grey with alpha",
    "La": "grey with alpha",
    "PA": "palette with alpha",
    "RGBA": "RGB with alpha",
    "RGBa": "RGB with alpha",
    "RGBX": "RGB",
}
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_SHOWN = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", *_TRANSPARENT)
_LITTLE = sys.byteorder == "little"
#: Raw mode that keeps the high bytes of samples, to the one that keeps the low bytes.
_LOW_BYTES = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if _LITTLE else "RGB;16L",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGBA;16N": "RGBA;16B" if _LITTLE else "RGBA;16L",
}
#: Pixels that are converted at a time: Pillow takes up to eleven bytes for each.
_AT_ONCE = 2**22
#: Chunks of a PNG that may come before its pixels, at the most; a file has a dozen.
_MOST_CHUNKS = 1000
_Deep = tuple[np.ndarray, str, tuple[float, float]]


@dataclass(frozen=True)
class Decoded:
    """An image as it is worked on, and what it was.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, upright.
        form: What was found, for people: ``"RGB, 8 bits"``.
        span: Least and greatest stored sample of formats beyond 8 bits; None for 8 bits.
        notes: What was passed over or converted, for people.
        outside: How many values a stated scale leaves out, or are not finite.
        values: How many values are read by a stated scale; 0 without any.
    """

    pixels: np.ndarray
    form: str
    span: tuple[float, float] | None = None
    notes: tuple[str, ...] = field(default=())
    outside: int = 0
    values: int = 0


@dataclass(frozen=True)
class Source:
    """An image that Pillow has opened, and what else is known of it.

    Attributes:
        image: Not loaded yet.
        reopen: Opens it once more; Pillow alone gives 16-bit colours without their low bytes.
        layout: Of a TIFF file, one that `vice.images.tiff_layout.objection` has nothing against.
        upright: Whether it is turned as its EXIF orientation says.
    """

    image: Image.Image
    reopen: Callable[[], Image.Image]
    layout: TiffLayout | None = None
    upright: bool = True

    def turned(self, image: Image.Image | None = None) -> Image.Image:
        """The image, or the same opened once more, as it is wanted."""
        return oriented(self.image if image is None else image, upright=self.upright)

    def values(self, image: Image.Image | None = None) -> np.ndarray:
        """Its samples: (H, W) or (H, W, C)."""
        return np.asarray(self.turned(image))


def decode(source: Source) -> Decoded:
    """Turns an opened image to 8-bit RGB.

    Raises:
        UnclearPixels: Nothing says what the samples mean.
    """
    pixels, name, span = _decode_deep(source) or _decode_shallow(source)
    return Decoded(pixels, name, span, tuple(_notes(source.image, source.layout)))


def _decode_shallow(source: Source) -> tuple[np.ndarray, str, None]:
    image = source.image
    if image.mode not in _SHOWN:
        raise UnclearPixels(f"its pixels are {image.mode}, which is not converted: {REMEDY}")
    wide = _is_wide_ppm(image)
    pixels = _to_rgb(source.turned())
    if wide:
        check_scaled_16_bit(pixels)
    bits = "16 bits" if wide else "1 bit" if image.mode == "1" else "8 bits"
    return pixels, f"{_NAMES.get(image.mode, image.mode)}, {bits}", None


def _notes(image: Image.Image, layout: TiffLayout | None) -> list[str]:
    notes = []
    if _has_frames(image, layout):
        notes.append("only the first frame or page is used")
    profile = image.info.get("icc_profile") or b""
    if profile and b"sRGB" not in profile and b"s\0R\0G\0B" not in profile:
        notes.append("a colour profile other than sRGB is not applied")
    if image.mode == "CMYK":
        notes.append("CMYK is converted without a profile")
    return notes


def _has_frames(image: Image.Image, layout: TiffLayout | None) -> bool:
    if layout is not None:
        return layout.pages
    # Multi-picture JPEG: a phone's holds a preview or a depth map as its second.
    if image.format not in ("GIF", "PNG", "WEBP", "AVIF"):
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    # Animation: the first frame is good, whatever a look at the second meets.
    except Exception:
        return False


def _decode_deep(source: Source) -> _Deep | None:
    """Pixels, name and span of samples beyond 8 bits; None for all others."""
    mode = source.image.mode
    if mode == "F":
        values = source.values()
        return _gray(scaled_float(values)), "grey, floating point", _span(values)
    if mode == "I":
        return _decode_integers(source)
    if mode.startswith("I;16"):
        return _decode_gray(source)
    return _decode_colors(source) if has_16_bit_colors(source.image) else None


def has_16_bit_colors(image: Image.Image) -> bool:
    """Whether Pillow would give the high bytes of the samples alone; before it is loaded."""
    return _raw_mode(image).partition(";")[2].startswith("16")


def _decode_integers(source: Source) -> _Deep:
    """Grey of PGM, which Pillow scales to 16 bits, and of PNG under older versions of it."""
    image = source.image
    stated = image.format == "PPM" and not _is_wide_ppm(image)
    bits = _stated_bits(image) if image.format == "PNG" else None
    if image.format not in ("PPM", "PNG"):
        raise UnclearPixels(
            f"its pixels are integers of more than 16 bits or with a sign, and nothing says which "
            f"values are black and white: {REMEDY}"
        )
    values = source.values()
    white = FULL if stated else white_of_16_bit(values, bits)
    return _gray(scaled(values, white)), "grey, 16 bits", _span(values)


def _decode_gray(source: Source) -> _Deep:
    image, layout = source.image, source.layout
    key = image.info.get("transparency") if image.format == "PNG" else None
    bits = _stated_bits(image) if image.format == "PNG" else None
    values = source.values().astype(np.uint16)
    depth = layout.depth if layout is not None else 16
    white = 2**depth - 1 if depth < 16 else white_of_16_bit(values, bits)
    shown = white - values.astype(np.int64) if layout and layout.white_is_zero else values
    if layout and layout.white_is_zero and values.max() > white:
        raise UnclearPixels(f"its samples reach {values.max()}, beyond {white}: {REMEDY}")
    rgb = _gray(scaled(shown, white))
    if isinstance(key, int):
        rgb[values == key] = 255
    return rgb, f"grey, {depth} bits", _span(values)


def _decode_colors(source: Source) -> _Deep:
    """RGB with or without alpha, and grey with alpha, of 16 bits a sample."""
    image, layout = source.image, source.layout
    key = image.info.get("transparency")
    bits = _stated_bits(image) if image.format == "PNG" else None
    samples = samples_of_16_bit(source)
    alpha = samples[..., -1] if samples.shape[2] in (2, 4) else None
    values = samples if alpha is None else samples[..., :-1]
    white = white_of_16_bit(values, bits)
    if alpha is not None and white != FULL:
        raise UnclearPixels(f"its samples of {bits} bits have an alpha of unknown range: {REMEDY}")
    name = "grey" if values.shape[2] == 1 else "RGB"
    name += "" if alpha is None else " with alpha"
    shown = values.astype(np.float64)
    if alpha is not None:
        share = alpha[..., None] / float(FULL)
        premultiplied = layout is not None and layout.premultiplied
        shown = (shown if premultiplied else shown * share) + FULL * (1 - share)
        # Clipping: files hold premultiplied colours beyond their alpha; white is the most.
        shown = np.minimum(shown, FULL)
    rgb = scaled(shown, white)
    rgb = np.repeat(rgb, 3, axis=2) if rgb.shape[2] == 1 else rgb
    if alpha is None and isinstance(key, tuple):
        rgb[(values == key).all(2)] = 255
    return rgb, f"{name}, 16 bits", _span(values)


def samples_of_16_bit(source: Source) -> np.ndarray:
    """All bits of the samples of a file `has_16_bit_colors` holds of, uint16 (H, W, C), upright.

    Pillow's decoders keep one byte of two. Reading twice, with the byte order that the file has
    and with the other one, gives both.
    """
    raw = _raw_mode(source.image)
    if raw == "LA;16B":
        # Big-endian samples, four bytes a pixel: grey high, low, alpha high, low.
        parts = source.values(_with_raw_mode(source.image, "RGBA")).astype(np.uint16)
        return parts[..., ::2] << 8 | parts[..., 1::2]
    # Premultiplied alpha: samples are wanted as they are stored.
    raw = raw.replace("RGBa", "RGBA")
    if raw not in _LOW_BYTES:
        raise UnclearPixels(f"its pixels are {raw}, of which not all bits can be read: {REMEDY}")
    high = source.values(_with_raw_mode(source.image, raw)).astype(np.uint16)
    with source.reopen() as again:
        low = source.values(_with_raw_mode(again, _LOW_BYTES[raw]))
    return high << 8 | low


def _with_raw_mode(image: Any, raw: str) -> Image.Image:
    # Raw mode: the last entry of a tile, alone or before options of the codec.
    image.tile = [
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:]))
        for tile in image.tile
    ]
    return image


def _raw_mode(image: Image.Image) -> str:
    """How the samples lie in the file, as Pillow names it; empty where it does not say."""
    tiles = getattr(image, "tile", [])
    args = tiles[0][3] if tiles else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _is_wide_ppm(image: Image.Image) -> bool:
    """Whether a PGM or PPM has a maxval of 65535, which tells the container and not the data."""
    if image.format != "PPM" or not getattr(image, "tile", None):
        return False
    args = image.tile[0][3]  # type: ignore[attr-defined]
    return args == "I;16B" or (isinstance(args, tuple) and args[-1] == FULL)


def _stated_bits(image: Image.Image) -> int | None:
    """Most significant bits of a colour that chunk sBIT of a PNG states; Pillow passes it over."""
    file = getattr(image, "fp", None)
    if file is None:
        return None
    offset = file.tell()
    try:
        file.seek(8)
        for _ in range(_MOST_CHUNKS):
            size, name = struct.unpack(">I4s", file.read(8))
            if name == b"sBIT" and 0 < size <= 4:
                stated = file.read(size)
                colors = stated[:3] if size >= 3 else stated[:1]
                return max(colors) if 0 < max(colors) <= 16 else None
            if name == b"IDAT":
                return None
            file.seek(size + 4, 1)
    except struct.error:
        pass
    finally:
        file.seek(offset)
    return None


def _to_rgb(image: Image.Image) -> np.ndarray:
    width, height = image.size
    image.load()
    band = max(1, _AT_ONCE // max(1, width))
    if band >= height:
        return _part_to_rgb(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, band):
        bottom = min(top + band, height)
        pixels[top:bottom] = _part_to_rgb(image.crop((0, top, width, bottom)))
    return pixels


def _part_to_rgb(image: Image.Image) -> np.ndarray:
    from PIL import Image

    if image.mode in _TRANSPARENT or "transparency" in image.info:
        # Premultiplied alpha: Pillow knows the way from such grey to grey alone.
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:, :, None], 3, axis=2)


def _span(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())
