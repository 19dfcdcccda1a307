"""Colours for what a pixel carries: an embedding, a class, a region."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, overload

import numpy as np
import torch

from vice.precision import for_numpy

_MOST_PIXELS = 200_000
#: Pixels that are multiplied at a time.
_PART = 10_000
_FIRST_COLORS: tuple[tuple[float, ...], ...] = (
    (38, 110, 180),
    (235, 125, 40),
    (60, 165, 85),
    (205, 55, 65),
    (245, 205, 65),
    (130, 85, 185),
    (75, 195, 205),
    (240, 150, 195),
    (145, 100, 65),
    (165, 175, 190),
)


@overload
def pca_rgb(embedding: Sequence[Any], *, percentile: float = ...) -> list[np.ndarray]: ...
@overload
def pca_rgb(embedding: Any, *, percentile: float = ...) -> np.ndarray: ...
def pca_rgb(embedding: Any, *, percentile: float = 1.0) -> np.ndarray | list[np.ndarray]:
    """Shows embeddings as colours: their three first principal components as red, green, blue.

    Several embeddings share one set of components and one colour scale, so that equal colours
    mean equal embeddings across the pictures (ViCE (BMVC), figure 4).

    Args:
        embedding: (D, H, W) array or tensor, or a list of such with the same D.
        percentile: The share of pixels, in percent, that each end of a component's scale clips;
            a few outliers must not bleach everything else.

    Returns:
        uint8 RGB (H, W, 3), or a list of such when a list was given. Components that do not vary
        (D < 3, a constant embedding) are middle grey.

    Raises:
        ValueError: An embedding is not (D, H, W), or their D differ.
    """
    many = isinstance(embedding, list | tuple)
    maps = [_at_least_float32(item) for item in (embedding if many else [embedding])]
    if not maps or any(m.ndim != 3 for m in maps) or len({len(m) for m in maps}) != 1:
        raise ValueError(
            f"pca_rgb wants (D, H, W) embeddings of one D, not {[m.shape for m in maps]}"
        )
    mean, components = _principal_components(maps)
    projected = [_projected(m, mean, components) for m in maps]
    values = np.concatenate([p.reshape(3, -1) for p in projected], 1)
    low, high = np.percentile(values, (percentile, 100 - percentile), axis=1)
    pictures = [_stretch(p, low, high) for p in projected]
    return pictures if many else pictures[0]


def palette(num: int) -> np.ndarray:
    """Returns ``num`` colours that are easy to tell apart: uint8, (num, 3).

    Ten chosen by hand, then each time the colour farthest, to the eye (Oklab), from those before
    it; nothing near black or white. A longer palette starts with the shorter one.
    """
    return _palette(max(num, 1))[:num].copy()


def colorize(
    labels: Any, num: int, *, ignore: int | None = 255, colors: np.ndarray | None = None
) -> np.ndarray:
    """Paints a label map.

    Args:
        labels: (H, W) integers in [0, num). Negative ones are painted black, as is ``ignore``.
        num: Number of classes or clusters.
        ignore: The value that means "no label"; None where every value is a label.
        colors: uint8 (num, 3); None takes `palette`.

    Returns:
        uint8 RGB, (H, W, 3).

    Raises:
        ValueError: A label is ``num`` or more.
    """
    labels = _as_numpy(labels).astype(np.int64)
    shown = labels >= 0 if ignore is None else (labels >= 0) & (labels != ignore)
    if shown.any() and labels[shown].max() >= num:
        raise ValueError(f"label {labels[shown].max()} in a map of {num} classes")
    table = palette(max(num, 1)) if colors is None else colors
    return table[np.where(shown, labels, 0)] * shown[..., None].astype(np.uint8)


def overlay(image: np.ndarray, colors: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Mixes a picture with colours of the same size: uint8 RGB, ``alpha`` the colours' share."""
    if image.shape != colors.shape:
        raise ValueError(f"cannot lay {colors.shape} over {image.shape}")
    mixed = (1 - alpha) * image.astype(np.float32) + alpha * colors.astype(np.float32)
    return np.rint(mixed).astype(np.uint8)


def region_boundaries(
    image: np.ndarray,
    regions: Any,
    color: tuple[int, int, int] = (255, 225, 25),
) -> np.ndarray:
    """Draws the borders between regions, one pixel wide.

    Args:
        image: uint8 RGB, (H, W, 3).
        regions: (H, W) integer ids.
        color: RGB of the line.

    Returns:
        A copy of the image in which each pixel whose right or lower neighbour belongs to another
        region has the line's colour.
    """
    regions = _as_numpy(regions)
    if image.shape[:2] != regions.shape:
        raise ValueError(f"regions {regions.shape} do not fit the image {image.shape[:2]}")
    edge = np.zeros(regions.shape, bool)
    edge[:, :-1] = regions[:, :-1] != regions[:, 1:]
    edge[:-1] |= regions[:-1] != regions[1:]
    drawn = image.copy()
    drawn[edge] = color
    return drawn


def _as_numpy(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = for_numpy(values).numpy()
    return np.asarray(values)


def _projected(pixels: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Of a map (D, H, W): (3, H, W)."""
    # Cancellation: what all pixels share is taken away before anything is rounded.
    apart = pixels - mean.astype(pixels.dtype)[:, None, None]
    # PyTorch's threads wait asleep, NumPy's hold the cores that others compute on meanwhile.
    axes, values = (torch.from_numpy(each) for each in (components.astype(pixels.dtype), apart))
    found: np.ndarray = torch.tensordot(axes, values, 1).numpy()
    return found


def _at_least_float32(values: Any) -> np.ndarray:
    found = _as_numpy(values)
    return found.astype(np.result_type(found.dtype, np.float32), copy=False)


def _principal_components(maps: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and the three main directions (3, D), zero where there are fewer."""
    total = sum(m[0].size for m in maps)
    step = max(1, -(-total // _MOST_PIXELS))
    pixels = np.concatenate([m.reshape(len(m), -1)[:, ::step] for m in maps], 1)
    mean = pixels.mean(1, dtype=np.float64)
    pixels -= mean[:, None].astype(pixels.dtype)
    # Double precision: the second component may be a ten-thousandth of the first.
    parts = torch.from_numpy(pixels).split(_PART, dim=1)
    products = [part.double() @ part.double().T for part in parts]
    covariance = sum(products).numpy() / pixels.shape[1]
    _, vectors = np.linalg.eigh(covariance)
    axes = vectors[:, ::-1][:, :3].T
    # Eigenvector sign is arbitrary: fix it, or colours flip between machines.
    strongest = np.abs(axes).argmax(1)
    axes = axes * np.sign(axes[np.arange(len(axes)), strongest])[:, None]
    components = np.zeros((3, len(mean)))
    components[: len(axes)] = axes
    return mean, components


def _stretch(projected: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    width = high - low
    flat = width < 1e-9
    scaled = (projected - low[:, None, None]) / np.where(flat, 1, width)[:, None, None]
    scaled[flat] = 0.5
    return np.moveaxis(np.rint(scaled.clip(0, 1) * 255).astype(np.uint8), 0, -1)


@lru_cache(maxsize=8)
def _palette(num: int) -> np.ndarray:
    levels = np.linspace(0, 255, 14)
    colors = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lightness = _oklab(colors)[:, 0]
    colors = colors[(lightness > 0.4) & (lightness < 0.93)]
    places, chosen = _oklab(colors), list(_FIRST_COLORS[:num])
    taken = _oklab(np.array([(0, 0, 0), (255, 255, 255), *chosen], np.float64))
    distance = np.linalg.norm(places[:, None] - taken, axis=-1).min(1)
    while len(chosen) < num:
        best = int(distance.argmax())
        chosen.append(tuple(colors[best]))
        distance = np.minimum(distance, np.linalg.norm(places - places[best], axis=-1))
    return np.rint(chosen).astype(np.uint8)


def _oklab(rgb: np.ndarray) -> np.ndarray:
    """Oklab (Ottosson, 2020), in which equal distances look about equal: (N, 3) of 0..255."""
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(linear @ cones.T) @ lab.T
