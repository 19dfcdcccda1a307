"""The change of colors of `vice.views.photometric` on a CPU, one image at a time.

The operations of `vice.views.color` in their order, each rounded to a level of 8 bits: look-up
tables, 3 x 3 matrices and OpenCV's color spaces go through memory once where batches of floats go
through it many times. Images are (h, w, 3) uint8 RGB.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vice.normalize import IMAGENET_MEAN, IMAGENET_STD
from vice.views.color import GRAY

if TYPE_CHECKING:
    from vice.views.photometric import PhotometricParams

_LEVELS = np.arange(256, dtype=np.float32)
_IDENTITY = np.eye(3, dtype=np.float32)
_TO_GRAY = np.tile(np.array(GRAY, np.float32), (3, 1))
#: Standard deviations beyond which a Gaussian is below a hundredth of a level.
_REACH = 4.0
#: splitmix64: what its counter goes up by, and shift and factor of each step of its mixing.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIXING = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LAST_SHIFT, _UNUSED_BITS = np.uint64(31), np.uint64(40)
#: (3, 1); counters of the channels of the first pixel.
_CHANNELS = np.array([[1], [2], [3]], np.uint64) * _GOLDEN
#: Noise in whole numbers: n, of 24 bits, stands for n / 2**23 - 1, whose level is
#: (n * factor + offset) >> `_FRACTION`; (3, 1) of each.
_FRACTION = np.uint64(55)
_FACTORS = np.array([[round(255 * std * 2.0**32)] for std in IMAGENET_STD], np.uint64)
_OFFSETS = np.array(
    [
        [round((255 * (mean - std) + 0.5) * 2.0**55)]
        for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)
    ],
    np.uint64,
)


def change_colors(
    image: np.ndarray, params: PhotometricParams, index: int, taps: int
) -> np.ndarray:
    """What is drawn for one image of a batch.

    Args:
        image: The image; it is not written to.
        params: Of the batch.
        index: Which image of it.
        taps: Most pixels of the blur's kernel in each direction.

    Returns:
        The changed image, uint8; the image itself where nothing changes.
    """
    if params.jitter[index]:
        numbers = (params.brightness, params.contrast, params.saturation, params.hue)
        for position in params.order[index]:
            image = _ADJUST[position](image, float(numbers[position][index]))
    if params.gray[index]:
        image = cv2.transform(image, _TO_GRAY)
    if params.blur[index]:
        image = gaussian_blur(image, float(params.sigma[index]), taps)
    return image


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """As `vice.views.color.adjust_brightness`."""
    return _look_up(image, _LEVELS * factor)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """As `vice.views.color.adjust_contrast`."""
    # `cv2.mean` comes to the same and takes five times as long.
    share = 1.0 / (image.shape[0] * image.shape[1])
    mean = float(np.dot([total * share for total in cv2.sumElems(image)[:3]], GRAY))
    return _look_up(image, _LEVELS * factor + mean * (1.0 - factor))


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """As `vice.views.color.adjust_saturation`."""
    matrix = factor * _IDENTITY + (1.0 - factor) * _TO_GRAY
    return cv2.transform(image, matrix)


def adjust_hue(image: np.ndarray, shift: float) -> np.ndarray:
    """As `vice.views.color.adjust_hue`; in floats, since 8 bits of hue are too few."""
    turned: np.ndarray = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2HSV)
    turned[..., 0] += np.float32(360.0 * (shift % 1.0))
    return cv2.convertScaleAbs(cv2.cvtColor(turned, cv2.COLOR_HSV2RGB))


def gaussian_blur(image: np.ndarray, sigma: float, taps: int) -> np.ndarray:
    """As `vice.views.color.gaussian_blur`, without the taps that weigh nothing.

    In floats: OpenCV rounds the weights to 8 bits where the image has 8.
    """
    length = min(taps, 2 * math.ceil(_REACH * sigma) + 1)
    blurred = cv2.GaussianBlur(
        image.astype(np.float32), (length, length), sigma, borderType=cv2.BORDER_REFLECT_101
    )
    return cv2.convertScaleAbs(blurred)


def fill_noise(out: np.ndarray, mask: np.ndarray, seed: int) -> None:
    """As `vice.views.photometric` on a device: splitmix64 of seed, pixel and channel.

    What it draws comes after normalization; here it is the level that is nearest to that.

    Args:
        out: (h, w, 3) uint8, overwritten where the mask says so with what is normalized to numbers
            in [-1, 1).
        mask: (h, w) bool.
        seed: Of the image.
    """
    pixels = np.flatnonzero(mask) * 3
    # (3, n): NumPy takes a while for each row, so these are to be few and long.
    state = pixels.astype(np.uint64) * _GOLDEN + (_CHANNELS + np.uint64(seed))
    shifted = np.empty_like(state)
    for bits, factor in _MIXING:
        state ^= np.right_shift(state, bits, out=shifted)
        state *= factor
    state ^= np.right_shift(state, _LAST_SHIFT, out=shifted)
    state >>= _UNUSED_BITS
    state *= _FACTORS
    state += _OFFSETS
    state >>= _FRACTION
    values = out.reshape(-1)
    for channel, levels in enumerate(state.astype(np.uint8)):
        values[channel:][pixels] = levels


def _look_up(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    levels = np.rint(np.minimum(np.maximum(values, 0.0), 255.0)).astype(np.uint8)
    return cv2.LUT(image, levels)


_ADJUST = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
