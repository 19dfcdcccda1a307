"""Images on disk: reading them as 8-bit RGB, bringing them to a standard size."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vice.errors import UserError
from vice.images.picture_formats import open_picture
from vice.images.pixel_formats import Decoded, Source, UnclearPixels, decode, has_16_bit_colors
from vice.images.reading import Reading
from vice.images.refusals import FormatError, foreign_format, reasons
from vice.images.standard_size import Mode, StandardSize
from vice.images.stored_order import unmapped
from vice.images.stored_samples import (
    Samples,
    read_samples,
    samples_of_picture,
)
from vice.images.tiff_layout import (
    layout_of,
    objection,
    read_layout,
)

if TYPE_CHECKING:
    from PIL import Image

Interpolation = Literal["auto", "nearest", "bilinear", "bicubic", "area"]
#: Most values of an image that is averaged in floats: beyond it they leave the processor's cache.
_MOST_FLOATS = 2**21


def read_image(
    path: str | Path,
    *,
    upright: bool = True,
    max_pixels: int | None = None,
    reading: Reading | None = None,
) -> np.ndarray:
    """Reads an image file as 8-bit RGB, upright as its EXIF orientation says.

    Grey images are repeated over the channels, transparent pixels are laid over white (what a
    viewer shows), CMYK is converted. Samples beyond 8 bits are scaled where the file or they
    themselves say which value is white; what is unclear is refused, see
    `vice.images.pixel_formats`. Of an animated or multi-page file the first page is read.

    Args:
        path: Image file of any format Pillow reads.
        upright: False leaves the pixels in the order in which they are stored.
        max_pixels: Most pixels that are read; None for Pillow's limit, by default 178,956,970.
        reading: Scale, bands and page that the files are read with, whatever they state; None for
            what is said above.

    Returns:
        uint8 array of shape (H, W, 3), RGB.

    Raises:
        ImageError: The file is missing, empty, truncated, broken, no image or too large.
        FormatError: Nothing says what its bands or values mean; an `ImageError`, too.
    """
    return decode_image(path, upright=upright, max_pixels=max_pixels, reading=reading).pixels


def decode_image(
    path: str | Path,
    *,
    upright: bool = True,
    max_pixels: int | None = None,
    reading: Reading | None = None,
) -> Decoded:
    """`read_image`, with what was found in the file.

    Raises:
        ImageError: As `read_image`.
    """
    if reading is None:
        with reasons(path):
            return _decode(Path(path), upright, max_pixels)
    with reasons(path):
        samples = read_samples(
            path,
            page=reading.page,
            bands=reading.bands,
            upright=upright,
            max_pixels=max_pixels,
            check=reading.check,
        )
        return reading.apply(samples)


def read_stored(path: str | Path, *, page: int = 1, bands: tuple[int, ...] = ()) -> Samples:
    """Samples of a file as they are stored, see `vice.images.stored_samples.read_samples`.

    Raises:
        ImageError: As `read_image`.
    """
    with reasons(path):
        return read_samples(path, page=page, bands=bands)


def _decode(path: Path, upright: bool, max_pixels: int | None) -> Decoded:
    layout = read_layout(path)
    unclear = objection(layout) if layout is not None else None
    if unclear:
        raise UnclearPixels(unclear)
    reopen = partial(open_picture, path, max_pixels)
    with reopen() as image:
        return decode(Source(image, reopen, layout, upright))


def upright_rgb(image: Image.Image, reading: Reading | None = None) -> np.ndarray:
    """An image of Pillow as `read_image` gives its file: uint8 (H, W, 3), turned as EXIF says.

    Args:
        image: The image.
        reading: As in `read_image`; its page is the one that the image shows.

    Raises:
        FormatError: Nothing says what its bands or values mean, or Pillow has dropped half of
            its bits.
    """
    name = getattr(image, "filename", "") or f"image of mode {image.mode}"
    tags = getattr(image, "tag_v2", None)
    layout = None if tags is None else layout_of(tags)
    try:
        unclear = objection(layout) if layout is not None and reading is None else None
        if unclear:
            raise UnclearPixels(unclear)
        if not getattr(image, "tile", None) and _lost_bits(image):
            raise UnclearPixels("Pillow has dropped half of its 16 bits: give the path of the file")
        unmapped(image)
        if reading is not None:
            samples = samples_of_picture(image, reading.bands, again=lambda: open_picture(name))
            return reading.apply(samples).pixels
        return decode(Source(image, lambda: open_picture(name), layout)).pixels
    except UnclearPixels as error:
        raise FormatError(f"{name}: {error}") from error


def _lost_bits(image: Any) -> bool:
    """Whether an image that is loaded comes from a file of 16-bit colours."""
    try:
        with open_picture(image.filename) as again:
            return has_16_bit_colors(again)
    # In-memory image: from no file, or from one that has gone.
    except (AttributeError, OSError, ValueError):
        return False


def check_format(path: str | Path) -> None:
    """Refuses what the first bytes and the tags of a file show to be unclear or not read.

    No pixel is decoded, and a file that cannot be opened is left to whoever reads it.

    Raises:
        FormatError: As `read_image`.
    """
    try:
        layout = read_layout(path)
        foreign = None if layout is not None else foreign_format(Path(path))
    except OSError:
        return
    unclear = objection(layout) if layout is not None else foreign
    if unclear:
        raise FormatError(f"{path}: {unclear}")


def standardize(
    image: np.ndarray,
    mode: Mode = StandardSize.mode,
    *,
    min_side: int = StandardSize.min_side,
    max_side: int = StandardSize.max_side,
    square: int = StandardSize.square,
    interpolation: Interpolation = "auto",
) -> np.ndarray:
    """Brings an image or a label map to the size the papers train and test on.

    ``highres``: enlarged until the shorter side is `min_side`, or shrunk until the longer one is
    `max_side`; the longer side never exceeds `max_side`, and a side still under `min_side` is
    padded on both ends with its mirror image. ``lowres``: the largest centred square, resized to
    `square` x `square` (the PiCIE setting). ``none``: unchanged.

    Args:
        image: (H, W, C) or (H, W), any dtype cv2.resize takes.
        mode: ``"highres"``, ``"lowres"`` or ``"none"``.
        min_side: Least length of the shorter side, in pixels (``highres``).
        max_side: Greatest length of the longer side, in pixels (``highres``).
        square: Side of the result, in pixels (``lowres``).
        interpolation: ``"auto"`` is anti-aliased when shrinking and bicubic when enlarging; use
            ``"nearest"`` for label maps.

    Returns:
        The new image, of the same dtype and number of dimensions.

    Raises:
        UserError: Unknown mode, or `min_side` greater than `max_side`.

    Source: ViCE (BMVC) section 4 and the PiCIE protocol.
    """
    if mode == "none":
        return image
    if mode == "lowres":
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize(image[top : top + side, left : left + side], square, square, interpolation)
    if mode != "highres":
        raise UserError(f"standardize: unknown mode {mode!r}; use 'highres', 'lowres' or 'none'")
    if not 0 < min_side <= max_side:
        raise UserError(f"standardize: min_side {min_side} must be in 1..max_side ({max_side})")
    return _pad(resize(image, *_highres_size(image, min_side, max_side), interpolation), min_side)


def _highres_size(image: np.ndarray, min_side: int, max_side: int) -> tuple[int, int]:
    height, width = image.shape[:2]
    scale = max(1.0, min_side / min(height, width))
    scale = min(scale, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _pad(image: np.ndarray, side: int) -> np.ndarray:
    missing = [max(0, side - length) for length in image.shape[:2]]
    if not any(missing):
        return image
    pads = [(gap // 2, gap - gap // 2) for gap in missing] + [(0, 0)] * (image.ndim - 2)
    return np.pad(image, pads, mode="symmetric")


def resize(
    image: np.ndarray, height: int, width: int, interpolation: Interpolation = "auto"
) -> np.ndarray:
    """Resizes an image.

    Args:
        image: (H, W, C) or (H, W).
        height: New height in pixels.
        width: New width in pixels.
        interpolation: ``"auto"`` treats each axis as it needs: area averaging (anti-aliased)
            where it shrinks, bicubic where it grows. ``"nearest"`` takes the pixel under the
            centre of the new one, so that maps stay aligned with resized images.

    Returns:
        (height, width, C) or (height, width) array of the same dtype.

    Raises:
        UserError: Unknown interpolation.
    """
    if image.shape[:2] == (height, width):
        return image
    if interpolation == "nearest":
        rows, columns = nearest(image.shape[0], height), nearest(image.shape[1], width)
        return image[rows][:, columns]
    import cv2

    named = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}
    if interpolation != "auto":
        if interpolation not in named:
            known = ", ".join(("auto", "nearest", *named))
            raise UserError(f"resize: unknown interpolation {interpolation!r}; use one of {known}")
        if interpolation == "area":
            return _average(image, height, width)
        return cv2.resize(image, (width, height), interpolation=named[interpolation])
    # Separable resize: with one call cv2 drops anti-aliasing as soon as the other axis grows.
    small = min(image.shape[0], height), min(image.shape[1], width)
    if image.shape[:2] != small:
        image = _average(image, *small)
    if small != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return image


def _average(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """`resize` with ``"area"``."""
    import cv2

    area, size = cv2.INTER_AREA, (width, height)
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    # Whole numbers of pixels in each new one: OpenCV has a quicker way, which rounds otherwise.
    whole = image.shape[0] % height == 0 and image.shape[1] % width == 0
    colors = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    if not colors or not shrinks or whole or image.size > _MOST_FLOATS:
        return cv2.resize(image, size, interpolation=area)
    # OpenCV averages bytes in floats, one conversion for each use of a byte: all at once is
    # quicker, and the sums and their rounding are the same.
    return cv2.convertScaleAbs(cv2.resize(image.astype(np.float32), size, interpolation=area))


def nearest(length: int, new_length: int) -> np.ndarray:
    """Source index under the centre of each of `new_length` pixels laid over `length` pixels.

    Returns:
        int64 array of shape (new_length,), non-decreasing, in [0, length).
    """
    return (2 * np.arange(new_length, dtype=np.int64) + 1) * length // (2 * new_length)
