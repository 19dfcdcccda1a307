"""Pictures with and without content, and the same picture in other clothes."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

Rng = np.random.Generator


def photo(rng: Rng, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """A picture of smooth and of sharp parts, like no other of the same generator."""
    small = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    smooth = Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)
    picture = np.asarray(smooth).astype(np.int64)
    for _ in range(4):
        top, left = rng.integers(0, size[0] - 9), rng.integers(0, size[1] - 9)
        picture[top : top + 9, left : left + 9] = rng.integers(0, 256, 3)
    return np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def flat(rng: Rng) -> np.ndarray:
    return np.full((60, 80, 3), rng.integers(0, 256, 3), np.uint8)


def noisy_flat(rng: Rng) -> np.ndarray:
    """One colour, and the noise of a sensor."""
    level = rng.integers(5, 250, 3)
    return (level + rng.normal(0, 1, (60, 80, 3))).round().astype(np.uint8)


def gradient(rng: Rng) -> np.ndarray:
    start, end = rng.integers(0, 100, 3), rng.integers(150, 256, 3)
    share = np.linspace(0, 1, 80)[None, :, None] * np.ones((60, 1, 1))
    return (start + share * (end - start)).astype(np.uint8)


def checkers(rng: Rng) -> np.ndarray:
    side = int(rng.integers(2, 12))
    one, two = rng.integers(0, 100, 3), rng.integers(150, 256, 3)
    rows, columns = np.indices((60, 80)) // side
    return np.where(((rows + columns) % 2)[..., None], one, two).astype(np.uint8)


def two_valued(rng: Rng) -> np.ndarray:
    return np.where(photo(rng)[..., :1] > 127, 255, 0).astype(np.uint8) * np.ones(3, np.uint8)


def jpeg(image: np.ndarray, quality: int = 70) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(image: np.ndarray, share: float = 0.6) -> np.ndarray:
    size = (round(image.shape[1] * share), round(image.shape[0] * share))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def brighter(image: np.ndarray) -> np.ndarray:
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(image)).enhance(1.02))


def one_pixel_changed(image: np.ndarray) -> np.ndarray:
    changed = image.copy()
    changed[7, 11] = 255 - changed[7, 11]
    return changed


def next_frame(image: np.ndarray) -> np.ndarray:
    """What a slow camera sees a moment later."""
    return np.roll(image, 1, axis=1)


#: The same picture to people, and no pixel-exact copy.
NEAR: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg": jpeg,
    "resized": resized,
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "brighter": brighter,
    "one-pixel": one_pixel_changed,
    "next-frame": next_frame,
}
