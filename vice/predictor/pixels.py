"""Arrays and tensors that people call an image, to 8-bit RGB; what is ambiguous is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vice.errors import UserError
from vice.images import Reading
from vice.images.pixel_formats import UnclearPixels
from vice.images.stored_samples import Samples
from vice.precision import for_numpy

_COLORS = (1, 3)
_FORMS = "(H, W, 3) or (3, H, W) RGB, (H, W) gray, uint8 or floating point in [0, 1]"


def rgb_of_array(image: Any, reading: Reading | None = None) -> np.ndarray:
    """An array or tensor as an image: uint8 (H, W, 3).

    Args:
        image: uint8, or floating point in [0, 1], which is rounded to the nearest of 256 levels;
            (H, W) gray, (H, W, 1), (H, W, 3), (1, H, W) or (3, H, W). Bytes of NumPy whose last
            axis is 3 have their colors there, whatever the first one is.
        reading: How the model's images are read; arrays are then samples as they stand in such a
            file, (H, W, bands) or (bands, H, W), or (H, W) of one band.

    Raises:
        UserError: Another shape or type, values beyond [0, 1], or two axes of another kind
            that may be colors.
    """
    image = for_numpy(image) if isinstance(image, Tensor) else np.asarray(image)
    array = np.asarray(image)
    if array.dtype == object:
        kind = type(image.item() if image.ndim == 0 else image).__name__
        raise UserError(
            f"an image must be a path, an image of Pillow, an array or a tensor, not {kind}"
        )
    if reading is not None:
        return _read(array, reading)
    shown = f"{array.dtype} {array.shape}"
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not array.size:
        raise UserError(f"an image must be {_FORMS}, not {shown}")
    first, last = (array.shape[axis] in _COLORS for axis in (0, 2))
    # NumPy's bytes: read by OpenCV or Pillow, colors last, as ever.
    plain = isinstance(image, np.ndarray) and array.dtype == np.uint8 and array.shape[2] == 3
    if first and last and image.ndim == 3 and not plain:
        raise UserError(
            f"an image of {shown} may have its colors first or last: give it as (H, W, 3) with "
            "another height, or as an image of Pillow"
        )
    if not last and first:
        array = array.transpose(1, 2, 0)
    elif not last:
        raise UserError(f"an image must be {_FORMS}, not {shown}: choose its bands first")
    pixels = _bytes(array, shown)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _read(array: np.ndarray, reading: Reading) -> np.ndarray:
    shown, count = f"{array.dtype} {array.shape}", reading.stored
    if array.ndim == 2 and count == 1:
        array = array[..., None]
    first, last = (array.ndim == 3 and array.shape[axis] == count for axis in (0, 2))
    fits = array.dtype.name == reading.samples and first != last and array.size
    if not fits:
        both = ", and only one of its axes may be as long as there are bands" * (first and last)
        raise UserError(
            f"an image of {shown} is none of the kind that the model's images are of ({reading}): "
            f"give (H, W, {count}) or ({count}, H, W) of {reading.samples}{both}, or the path"
        )
    values = array.transpose(1, 2, 0) if first else array
    chosen = [band - 1 for band in reading.bands] or list(range(count))
    try:
        return reading.apply(Samples(values[..., chosen], count, 8 * array.dtype.itemsize)).pixels
    except UnclearPixels as error:
        raise UserError(f"an image of {shown}: {error}") from error


def _bytes(array: np.ndarray, shown: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"an image must be {_FORMS}, not {shown}: scale it first")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"an image of {shown} has values from {low:g} to {high:g}: floating point must lie in "
            "[0, 1], scale it first"
        )
    return np.rint(array.astype(np.float64) * 255).astype(np.uint8)
