"""Over-segmentations besides SLIC, by scikit-image: Felzenszwalb's graph and compact watershed."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from vice.errors import UserError
from vice.images import nearest
from vice.superpixels.region_ids import check_image, relabel


def felzenszwalb(
    image: np.ndarray, scale: float = 100.0, sigma: float = 0.8, min_size: int = 50
) -> np.ndarray:
    """Graph-based segmentation: regions as large as the image's own variation lets them be.

    Args:
        image: uint8 RGB, (H, W, 3).
        scale: Larger values prefer larger regions (k of the paper, for values up to 255).
        sigma: Standard deviation of the Gaussian blur before it, in pixels.
        min_size: Smaller regions join a neighbour, in pixels.

    Returns:
        int32 (H, W), ids contiguous from 0.

    Raises:
        UserError: Wrong image, a parameter out of range, or scikit-image is missing.

    Source: Felzenszwalb and Huttenlocher 2004.
    """
    check_image(image)
    if scale <= 0 or sigma < 0 or min_size < 1:
        raise UserError(
            f"felzenszwalb: scale {scale} and min_size {min_size} must be positive, and sigma "
            f"{sigma} at least 0"
        )
    labels = _skimage("felzenszwalb").felzenszwalb(
        image, scale=scale, sigma=sigma, min_size=min_size, channel_axis=-1
    )
    return relabel(labels)


def watershed(image: np.ndarray, region_size: int = 20, compactness: float = 1.0) -> np.ndarray:
    """Compact watershed: one region a marker of a regular grid, grown over the gradient.

    The gradient is that of the CIELAB channel that changes most, after a 3x3 Gaussian, in steps of
    8-bit Lab a pixel.

    Args:
        image: uint8 RGB, (H, W, 3).
        region_size: Distance of the markers in pixels.
        compactness: What a pixel of distance from the marker costs, in gradient; 0 is the plain
            watershed, large values approach squares.

    Returns:
        int32 (H, W), ids contiguous from 0.

    Raises:
        UserError: Wrong image, a parameter out of range, or scikit-image is missing.

    Source: Neubert and Protzel 2014.
    """
    check_image(image)
    if region_size < 1 or compactness < 0:
        raise UserError(
            f"watershed: region_size {region_size} must be positive and compactness {compactness} "
            "at least 0"
        )
    height, width = image.shape[:2]
    rows, columns = (nearest(n, max(1, round(n / region_size))) for n in (height, width))
    markers = np.zeros((height, width), np.int32)
    ids = np.arange(1, len(rows) * len(columns) + 1)
    markers[np.ix_(rows, columns)] = ids.reshape(len(rows), len(columns))
    segment = _skimage("watershed").watershed
    return relabel(segment(_gradient(image), markers, compactness=compactness) - 1)


def _gradient(image: np.ndarray) -> np.ndarray:
    import cv2

    lab = cv2.cvtColor(cv2.GaussianBlur(image, (3, 3), 0), cv2.COLOR_RGB2LAB)
    # The kernel's weights of one side add up to 4, over a distance of two pixels.
    along = (cv2.Sobel(lab, cv2.CV_64F, dx, 1 - dx, scale=1 / 8) for dx in (0, 1))
    return np.hypot(*along).max(axis=2)


def _skimage(method: str) -> ModuleType:
    try:
        import skimage.segmentation
    except ImportError as error:
        raise UserError(
            f"superpixels: method {method!r} needs scikit-image: run `pip install scikit-image`, "
            "or use method='slic'"
        ) from error
    return skimage.segmentation
