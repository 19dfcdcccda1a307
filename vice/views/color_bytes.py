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
        The changed image, from 0 to 255, uint8 or float32; the image itself where nothing changes.
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
    """As `vice.views.color.gaussian_blur`, without the taps that weigh nothing; float32.

    OpenCV rounds the weights to 8 bits where the image has 8.
    """
    length = min(taps, 2 * math.ceil(_REACH * sigma) + 1)
    image = image.astype(np.float32)
    return cv2.GaussianBlur(image, (length, length), sigma, borderType=cv2.BORDER_REFLECT_101)


def normalized(image: np.ndarray, out: np.ndarray) -> None:
    """Writes an image as `vice.normalize.normalize` would bring it to a network.

    Args:
        image: uint8 or float32 from 0 to 255.
        out: (3, h, w) float32, written to.
    """
    for plane, mean, std, there in zip(
        cv2.split(image), IMAGENET_MEAN, IMAGENET_STD, out, strict=True
    ):
        np.multiply(plane, np.float32(1 / (255 * std)), out=there)
        there -= np.float32(mean / std)


def fill_noise(out: np.ndarray, mask: np.ndarray, seed: int) -> None:
    """As `vice.views.photometric` on a device, to the bit: splitmix64 of seed, pixel and channel.

    Args:
        out: (C, h, w) float32, overwritten where the mask says so with numbers in [-1, 1).
        mask: (h, w) bool.
        seed: Of the image.
    """
    pixels = np.flatnonzero(mask)
    counters = pixels.astype(np.uint64) * np.uint64(len(out))
    for channel, plane in enumerate(out):
        state = (counters + np.uint64(channel + 1)) * np.uint64(0x9E3779B97F4A7C15)
        state += np.uint64(seed)
        for bits, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state ^= state >> np.uint64(bits)
            state *= np.uint64(factor)
        state ^= state >> np.uint64(31)
        plane.reshape(-1)[pixels] = (state >> np.uint64(40)) * 2.0**-23 - 1.0


def _look_up(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    return cv2.LUT(image, np.rint(values).clip(0, 255).astype(np.uint8))


_ADJUST = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
