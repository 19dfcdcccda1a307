"""SLIC superpixels (Achanta et al. 2012) by OpenCV, or by scikit-image in its place, and grids."""

from __future__ import annotations

import logging
from functools import lru_cache

import numpy as np

from vice.errors import UserError
from vice.superpixels.region_ids import check_image, relabel

logger = logging.getLogger(__name__)


def slic(
    image: np.ndarray,
    region_size: int = 20,
    ruler: float = 10.0,
    iterations: int = 5,
    blur_sigma: float | None = None,
) -> np.ndarray:
    """Over-segments an image into SLIC superpixels.

    The image is blurred with a 3x3 Gaussian and converted to CIELAB, as OpenCV recommends for its
    implementation. Without opencv-contrib, scikit-image's SLIC does the work (its superpixels
    differ in detail, so the cache keeps them apart).

    Args:
        image: uint8 RGB, (H, W, 3).
        region_size: Mean side of a superpixel in pixels.
        ruler: Weight of nearness in space over nearness in colour.
        iterations: k-means iterations.
        blur_sigma: Standard deviation of the Gaussian in pixels; None for OpenCV's kernel of that
            size, (1, 2, 1) / 4. The authors' release has 4, nearly a mean of 3x3 pixels.

    Returns:
        int32 (H, W), ids contiguous from 0.

    Raises:
        UserError: Wrong image shape or dtype, a parameter out of range, or no SLIC installed.

    Source: ViCE (BMVC) section 3.1; Achanta et al. 2012.

    Example:
        >>> import numpy as np
        >>> from vice.superpixels import slic
        >>> image = np.zeros((8, 16, 3), np.uint8)
        >>> image[:, 8:] = 255
        >>> slic(image, region_size=8)[0].tolist()
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    check_image(image)
    if region_size < 1 or iterations < 1 or ruler <= 0:
        raise UserError(
            f"slic: region_size {region_size}, iterations {iterations} and ruler {ruler} "
            "must all be positive"
        )
    if blur_sigma is not None and not blur_sigma > 0:
        raise UserError(f"slic: blur_sigma {blur_sigma} must be positive, or None")
    height, width = image.shape[:2]
    # Minimum size: OpenCV crashes the process on images shorter than half a region.
    missing = [(0, max(0, region_size - side)) for side in (height, width)]
    padded = np.pad(image, [*missing, (0, 0)], mode="edge") if np.any(missing) else image
    run = _slic_opencv if backend() == "opencv" else _slic_skimage
    labels = run(padded, region_size, ruler, iterations, blur_sigma)
    return relabel(labels[:height, :width])


@lru_cache(maxsize=1)
def backend() -> str:
    """Which library computes SLIC here: ``"opencv"`` or ``"skimage"``; logs a fall-back once.

    Raises:
        UserError: Neither is installed.
    """
    try:
        from cv2 import ximgproc

        ximgproc.createSuperpixelSLIC  # noqa: B018 - plain OpenCV has an empty ximgproc
        return "opencv"
    except (ImportError, AttributeError):
        pass
    try:
        import skimage.segmentation  # noqa: F401
    except ImportError as error:
        raise UserError(
            "superpixels: neither cv2.ximgproc nor scikit-image is installed; "
            "run `pip install opencv-contrib-python-headless`, or use method='grid'"
        ) from error
    logger.warning(
        "cv2.ximgproc is missing, superpixels come from scikit-image (slower, and different in "
        "detail); `pip install opencv-contrib-python-headless` brings it"
    )
    return "skimage"


def _slic_opencv(
    image: np.ndarray, size: int, ruler: float, iterations: int, blur_sigma: float | None
) -> np.ndarray:
    import cv2

    smooth = cv2.GaussianBlur(image, (3, 3), blur_sigma or 0)
    lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB)
    solver = cv2.ximgproc.createSuperpixelSLIC(lab, cv2.ximgproc.SLIC, size, float(ruler))
    solver.iterate(iterations)
    return solver.getLabels()


def _slic_skimage(
    image: np.ndarray, size: int, ruler: float, iterations: int, blur_sigma: float | None
) -> np.ndarray:
    from skimage.color import rgb2lab
    from skimage.filters import gaussian
    from skimage.segmentation import slic as segment

    # sigma 0.8 cut off at one pixel is OpenCV's default 3x3 kernel.
    sigma = blur_sigma or 0.8
    smooth = gaussian(image, sigma=sigma, truncate=1 / sigma, channel_axis=-1)
    lab = rgb2lab(smooth) * (2.55, 1.0, 1.0)  # the scale of 8-bit Lab, which `ruler` refers to
    # Normalization: it stretches the image to [0, 1]; the ruler is divided alike.
    span = float(lab.max() - lab.min()) or 1.0
    return segment(
        lab,
        n_segments=max(1, round(image.shape[0] * image.shape[1] / size**2)),
        compactness=ruler / span,
        max_num_iter=iterations,
        convert2lab=False,
        enforce_connectivity=False,
        start_label=0,
        channel_axis=-1,
    )


def grid(height: int, width: int, region_size: int) -> np.ndarray:
    """Squares of `region_size` pixels a side, numbered row by row; the last ones may be cut.

    Args:
        height: Height of the map in pixels.
        width: Width of the map in pixels.
        region_size: Side of a square; 1 makes every pixel a region.

    Returns:
        int32 (height, width), ids contiguous from 0.

    Raises:
        UserError: `region_size` below 1.

    Source: ViCE (BMVC) section 4, ablation of superpixels.

    Example:
        >>> from vice.superpixels import grid
        >>> grid(3, 5, region_size=2).tolist()
        [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    """
    if region_size < 1:
        raise UserError(f"grid: region_size {region_size} must be at least 1")
    rows = np.arange(height, dtype=np.int32) // region_size
    columns = np.arange(width, dtype=np.int32) // region_size
    per_row = -(-width // region_size)
    return rows[:, None] * np.int32(per_row) + columns
