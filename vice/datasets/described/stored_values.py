"""The values that a file of labels stores, whatever its pixel format: one number for each pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vice.datasets.label_files import opened, raw_mode
from vice.errors import UserError
from vice.images.stored_order import oriented

#: Formats that may change the values of pixels when they are saved.
_LOSSY = ("JPEG", "WEBP", "MPO")
#: Bits of gray that Pillow stretches to 0-255 when it reads them.
_STRETCHED = {"L;2": 2, "L;4": 4, "L;2I": 2, "L;4I": 4}


def read_values(
    path: str | Path, *, upright: bool = True, shown: bool = False
) -> tuple[np.ndarray, bool]:
    """Reads a file of labels.

    Args:
        path: 1-bit, 8-bit or 16-bit gray, a palette's indices, or RGB.
        upright: Whether it is turned as its own EXIF orientation says.
        shown: Whether of a palette the colors count, which programs that shrink files keep, and
            not the indices, which they number anew.

    Returns:
        int32 (H, W): of one channel the value (of 2- and 4-bit gray as it was before readers
        stretch it, of 1 bit 0 or 1), of colors ``red * 65536 + green * 256 + blue``; and whether
        they are colors. RGB whose channels are equal everywhere is gray.

    Raises:
        UserError: It cannot be read, or its format cannot hold labels.
    """
    with opened(path) as image:
        if image.format in _LOSSY and not _is_lossless(image):
            raise UserError(
                f"{path}: is a {image.format} file, which may change the values of pixels when it "
                "is saved: make the labels again from their source, as PNG"
            )
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise UserError(f"{path}: holds {frames} frames; labels have one")
        bits = _STRETCHED.get(raw_mode(image))
        image = oriented(image, upright=upright)
        if image.mode == "P" and (shown or _renumbers_gray(image)):
            image = image.convert("RGB")
        return _values(image, bits, path)


def read_palette(path: str | Path) -> dict[int, int]:
    """Packed color of each index that a palette image uses; empty of any other image."""
    with opened(path) as image:
        if image.mode != "P":
            return {}
        used, colors = _used_colors(image)
        return {int(i): int(pack(*color)) for i, color in zip(used, colors, strict=True)}


def _renumbers_gray(image: Image.Image) -> bool:
    """Whether a palette is grays that a program has numbered anew: values of gray, then."""
    used, colors = _used_colors(image)
    return bool((colors == colors[:, :1]).all() and (colors[:, 0] != used).any())


def _used_colors(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Indices that a palette image uses, (N,), and their colors, int32 (N, 3)."""
    colors = np.array(image.getpalette("RGB"), np.int32).reshape(-1, 3)
    used = np.unique(np.asarray(image))
    used = used[used < len(colors)]
    return used, colors[used]


def _values(image: Image.Image, bits: int | None, path: str | Path) -> tuple[np.ndarray, bool]:
    if image.mode in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        values = np.asarray(image).astype(np.int32)
        return (values // (255 // (2**bits - 1)) if bits else values), False
    pixels = np.asarray(image)
    if image.mode in ("RGBA", "LA"):
        if (pixels[..., -1] != 255).any():
            raise UserError(f"{path}: labels with transparent pixels: save them without")
        pixels = pixels[..., :-1]
    elif image.mode == "F":
        raise UserError(
            f"{path}: its values are floating point, which no class is: save them as whole "
            "numbers, as PNG of 8 or 16 bits"
        )
    elif image.mode != "RGB":
        raise UserError(f"{path}: pixel format {image.mode!r} cannot hold labels; save it as PNG")
    pixels = pixels.astype(np.int32)
    if pixels.shape[2] == 1 or (pixels == pixels[..., :1]).all():
        return pixels[..., 0], False
    return pack(pixels[..., 0], pixels[..., 1], pixels[..., 2]), True


def pack(red: np.ndarray | int, green: np.ndarray | int, blue: np.ndarray | int) -> np.ndarray:
    """One number for a color of 8 bits a channel, int32."""
    return np.asarray(red, np.int32) << 16 | np.asarray(green, np.int32) << 8 | np.int32(blue)


def unpack(value: int) -> tuple[int, int, int]:
    """The color of a number that `pack` made."""
    return value >> 16 & 255, value >> 8 & 255, value & 255


def _is_lossless(image: Image.Image) -> bool:
    return image.format == "WEBP" and bool(image.info.get("lossless"))
