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
_TO_GRAY = np.tile(np.array(GRAY, np.float32), (3, 1))
#: Standard deviations beyond which a Gaussian is below a hundredth of a level.
_REACH = 4.0
#: Levels of what is normalized to 1, less those of 0; and of 0.
_NOISE = 255 * np.array(IMAGENET_STD), 255 * np.array(IMAGENET_MEAN)


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
    mean = float(np.dot(cv2.mean(image)[:3], GRAY))
    return _look_up(image, _LEVELS * factor + mean * (1.0 - factor))


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """As `vice.views.color.adjust_saturation`."""
    matrix = factor * np.eye(3, dtype=np.float32) + (1.0 - factor) * _TO_GRAY
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
    pixels = np.flatnonzero(mask)
    counters = pixels.astype(np.uint64)[:, None] * np.uint64(3)
    state: np.ndarray = counters + np.arange(1, 4, dtype=np.uint64)
    state *= np.uint64(0x9E3779B97F4A7C15)
    state += np.uint64(seed)
    for bits, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state ^= state >> np.uint64(bits)
        state *= np.uint64(factor)
    state ^= state >> np.uint64(31)
    drawn = (state >> np.uint64(40)) * 2.0**-23 - 1.0
    out.reshape(-1, 3)[pixels] = np.rint(drawn * _NOISE[0] + _NOISE[1])


def _look_up(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    return cv2.LUT(image, np.rint(values).clip(0, 255).astype(np.uint8))


_ADJUST = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
