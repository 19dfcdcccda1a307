"""Region maps of an image: SLIC superpixels, grids, single pixels, or a map given on disk."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from vice.errors import UserError
from vice.region_cache import RegionCache

logger = logging.getLogger(__name__)
Method = Literal["slic", "grid", "pixel"]

# Part of every cache key: raise it whenever the same parameters would give other maps.
VERSION = 1


def slic(
    image: np.ndarray, region_size: int = 20, ruler: float = 10.0, iterations: int = 5
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

    Returns:
        int32 (H, W), ids contiguous from 0.

    Raises:
        UserError: Wrong image shape or dtype, a parameter out of range, or no SLIC installed.

    Source: ViCE (BMVC) section 3.1; Achanta et al. 2012.
    """
    _check_image(image)
    if region_size < 1 or iterations < 1 or ruler <= 0:
        raise UserError(
            f"slic: region_size {region_size}, iterations {iterations} and ruler {ruler} "
            "must all be positive"
        )
    height, width = image.shape[:2]
    # OpenCV crashes the process on images shorter than half a region.
    missing = [(0, max(0, region_size - side)) for side in (height, width)]
    padded = np.pad(image, [*missing, (0, 0)], mode="edge") if np.any(missing) else image
    run = _slic_opencv if backend() == "opencv" else _slic_skimage
    return relabel(run(padded, region_size, ruler, iterations)[:height, :width])


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


def _slic_opencv(image: np.ndarray, size: int, ruler: float, iterations: int) -> np.ndarray:
    import cv2

    lab = cv2.cvtColor(cv2.GaussianBlur(image, (3, 3), 0), cv2.COLOR_RGB2LAB)
    solver = cv2.ximgproc.createSuperpixelSLIC(lab, cv2.ximgproc.SLIC, size, float(ruler))
    solver.iterate(iterations)
    return solver.getLabels()


def _slic_skimage(image: np.ndarray, size: int, ruler: float, iterations: int) -> np.ndarray:
    from skimage.color import rgb2lab
    from skimage.filters import gaussian
    from skimage.segmentation import slic as segment

    # sigma 0.8 cut off at one pixel is OpenCV's default 3x3 kernel.
    smooth = gaussian(image, sigma=0.8, truncate=1.25, channel_axis=-1)
    lab = rgb2lab(smooth) * (2.55, 1.0, 1.0)  # the scale of 8-bit Lab, which `ruler` refers to
    # It stretches the image to [0, 1]; dividing the ruler alike restores the balance.
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
    """
    if region_size < 1:
        raise UserError(f"grid: region_size {region_size} must be at least 1")
    rows = np.arange(height, dtype=np.int32) // region_size
    columns = np.arange(width, dtype=np.int32) // region_size
    per_row = -(-width // region_size)
    return rows[:, None] * np.int32(per_row) + columns


def relabel(labels: np.ndarray) -> np.ndarray:
    """Renumbers ids to be contiguous from 0, in the same order; negative ids all become -1.

    Args:
        labels: Integer map of any shape.

    Returns:
        int32 array of the same shape.
    """
    if labels.size == 0:
        return labels.astype(np.int32)
    low, high = int(labels.min()), int(labels.max())
    if low < -1:
        labels, low, high = np.maximum(labels, -1), -1, max(high, -1)
    if high > 4 * labels.size + 65536:  # a lookup table would be larger than the map
        _, inverse = np.unique(labels, return_inverse=True)
        ids = inverse.reshape(labels.shape) - int(low < 0)
        return ids.astype(np.int32)
    table = np.zeros(high + 2, np.int32)  # the last entry is that of id -1
    table[labels] = 1
    table[-1] = 0
    table = np.cumsum(table, dtype=np.int32) - 1
    table[-1] = -1
    return table[labels]


def from_file(path: str | Path, expected_shape: tuple[int, int] | None = None) -> np.ndarray:
    """Reads a region map made by another program.

    Args:
        path: One-channel image (8-bit, 16-bit or palette; the stored numbers are the ids) or an
            integer ``.npy`` array, (H, W); negative ids mean "no region".
        expected_shape: (H, W) of the image the map belongs to.

    Returns:
        int32 (H, W), ids contiguous from 0, -1 where there is no region.

    Raises:
        UserError: Unreadable, not one channel of integers, or not of the expected shape.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such region map; check the path")
    try:
        labels = _load_labels(path)
    except Exception as error:  # as for images, decoders raise almost anything
        raise UserError(f"{path}: cannot be read as a region map ({error})") from error
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{path}: a region map must be one channel of integers, (H, W); "
            f"this one is {labels.dtype} {labels.shape}"
        )
    if expected_shape is not None and labels.shape != tuple(expected_shape):
        raise UserError(
            f"{path}: the region map is {labels.shape[0]} x {labels.shape[1]} pixels (H x W), its "
            f"image {expected_shape[0]} x {expected_shape[1]}; make the map from that image"
        )
    return relabel(labels)


def _load_labels(path: Path) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        return np.load(path, allow_pickle=False)
    from PIL import Image

    with Image.open(path) as image:
        return np.array(image)


class Superpixels:
    """Makes the region map of an image, and keeps SLIC maps on disk if asked to.

    Args:
        method: ``"slic"``, ``"grid"`` or ``"pixel"``.
        region_size: Side of a region in pixels (``"pixel"`` ignores it).
        ruler: See `slic`.
        iterations: See `slic`.
        cache_dir: Folder for SLIC maps, or None. A file's name is a hash of the image's bytes and
            shape and of all parameters, so one folder serves any number of runs and processes.

    Raises:
        UserError: Unknown method, parameter out of range, or a cache folder that cannot be made.
    """

    def __init__(
        self,
        method: Method = "slic",
        region_size: int = 20,
        ruler: float = 10.0,
        iterations: int = 5,
        cache_dir: str | Path | None = None,
    ) -> None:
        if method not in ("slic", "grid", "pixel"):
            raise UserError(f"superpixels: unknown method {method!r}; use 'slic', 'grid', 'pixel'")
        if region_size < 1:
            raise UserError(f"superpixels: region_size {region_size} must be at least 1")
        self.method = method
        self.region_size = 1 if method == "pixel" else region_size
        self.ruler = ruler
        self.iterations = iterations
        self.cache: RegionCache | None = None
        # Grids are quicker made than read.
        if cache_dir is not None and method == "slic":
            parameters = f"slic-{backend()}-v{VERSION}-{region_size}-{float(ruler)}-{iterations}"
            self.cache = RegionCache(cache_dir, parameters)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Region map of one image.

        Args:
            image: uint8 RGB, (H, W, 3).

        Returns:
            int32 (H, W), ids contiguous from 0.
        """
        _check_image(image)
        if self.method != "slic":
            return grid(image.shape[0], image.shape[1], self.region_size)
        if self.cache is None:
            return self._slic(image)
        path = self.cache.path(image)
        regions = self.cache.read(path, (image.shape[0], image.shape[1]))
        if regions is None:
            regions = self._slic(image)
            self.cache.write(path, regions)
        return regions

    def _slic(self, image: np.ndarray) -> np.ndarray:
        return slic(image, self.region_size, self.ruler, self.iterations)


def _check_image(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise UserError(
            f"superpixels: an image must be uint8 RGB (H, W, 3), got {image.dtype} {image.shape}; "
            "vice.images.read_image gives that form"
        )
