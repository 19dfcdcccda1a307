"""What stands out of an image's borders: salient regions without anything learnt.

Source: boundary connectivity and its optimization, Zhu et al., "Saliency Optimization from Robust
Background Detection" (CVPR 2014).
"""

from __future__ import annotations

import cv2
import numpy as np

from vice.images import resize
from vice.superpixels.slic_opencv import slic

#: Part of every cache key: raise it whenever the same image would give another map.
VERSION = 1
#: Longest side that is looked at, in pixels, and superpixels of it, about.
SIDE, SUPERPIXELS = 240, 200
#: Scales of the paper: of color (CIELAB), of boundary connectivity, of places (share of the side).
_COLOR, _CONNECTIVITY, _PLACE = 10.0, 1.0, 0.25
#: Weight of the background, and least bond of neighbors, as the authors' experiments have them.
_BACKGROUND, _BOND = 5.0, 0.1


def saliency(image: np.ndarray) -> np.ndarray:
    """How much each pixel stands out of what runs along the image's border.

    Superpixels that are wide for how much of the border they and what is like them touch are
    foreground; contrast with the background, and then an optimization that has neighbors agree,
    make it whole. Deterministic.

    Args:
        image: uint8 RGB (H, W, 3).

    Returns:
        float32 (h, w) from 0 to 1, of at most `SIDE` pixels a side; zeros where nothing differs.
    """
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    small = resize(image, max(1, round(height * scale)), max(1, round(width * scale)))
    area = small.shape[0] * small.shape[1]
    regions = slic(small, max(2, round((area / SUPERPIXELS) ** 0.5)))
    shown = _optimized(*_describe(small, regions))[regions]
    low, high = float(shown.min()), float(shown.max())
    if high - low < 1e-6:
        return np.zeros(regions.shape, np.float32)
    return ((shown - low) / (high - low)).astype(np.float32)


def salient_mask(image: np.ndarray) -> np.ndarray:
    """Pixels above Otsu's threshold of the saliency; bool (H, W), none where nothing stands out."""
    found = saliency(image)
    if not found.any():
        return np.zeros(image.shape[:2], bool)
    levels = np.round(255 * found).astype(np.uint8)
    _, mask = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return resize(mask, image.shape[0], image.shape[1], "nearest").astype(bool)


def _describe(
    image: np.ndarray, regions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Distances of color and of place, neighborhood, and border, of the N superpixels."""
    count = int(regions.max()) + 1
    flat = regions.ravel()
    sizes = np.bincount(flat, minlength=count)
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    rows, columns = np.indices(regions.shape) / max(regions.shape)
    values = [*np.moveaxis(lab, 2, 0), rows, columns]
    means = np.stack([np.bincount(flat, each.ravel(), count) / sizes for each in values], axis=1)
    neighbors = np.zeros((count, count), bool)
    for one, two in (
        (regions[:, 1:], regions[:, :-1]),
        (regions[1:], regions[:-1]),
    ):
        neighbors[one.ravel(), two.ravel()] = True
    neighbors |= neighbors.T
    border = np.zeros(count, bool)
    for edge in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        border[edge] = True
    np.fill_diagonal(neighbors, False)
    return _distances(means[:, :3]), _distances(means[:, 3:]), neighbors, border


def _distances(points: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.square(points[:, None] - points[None]).sum(2)))


def _optimized(
    colors: np.ndarray, places: np.ndarray, neighbors: np.ndarray, border: np.ndarray
) -> np.ndarray:
    """Saliency of the superpixels, float64 (N,)."""
    background = _background(colors, neighbors, border)
    near = np.exp(-np.square(places / _PLACE) / 2)
    contrast = (colors * near * background).sum(1)
    contrast /= max(float(contrast.max()), 1e-12)
    bonds = np.where(neighbors, np.exp(-np.square(colors / _COLOR) / 2) + _BOND, 0)
    # Least squares: background to 0, contrast to 1, neighbors to one another.
    matrix = np.diag(bonds.sum(1) + _BACKGROUND * background + contrast + 1e-9) - bonds
    return np.linalg.solve(matrix, contrast)


def _background(colors: np.ndarray, neighbors: np.ndarray, border: np.ndarray) -> np.ndarray:
    """How likely each superpixel is background, by the border that what is like it runs along."""
    linked = neighbors | (border[:, None] & border)
    steps = np.where(linked, colors, np.inf)
    np.fill_diagonal(steps, 0)
    for middle in range(len(steps)):
        np.minimum(steps, steps[:, middle, None] + steps[middle], out=steps)
    alike = np.exp(-np.square(steps / _COLOR) / 2)
    connectivity = alike[:, border].sum(1) / np.sqrt(alike.sum(1))
    return np.asarray(1 - np.exp(-np.square(connectivity / _CONNECTIVITY) / 2))
