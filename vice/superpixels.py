"""Region maps of an image: SLIC superpixels, grids, and every other method by its name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from vice.errors import UserError
from vice.images import read_image, standardize
from vice.region_cache import RegionCache
from vice.region_files import RegionFiles
from vice.region_maps import check_image, relabel
from vice.segmentations import felzenszwalb, watershed

logger = logging.getLogger(__name__)
Method = Literal["slic", "grid", "pixel", "felzenszwalb", "watershed", "files"]
METHODS: tuple[str, ...] = get_args(Method)

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
    check_image(image)
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


class Superpixels:
    """Makes the region map of an image, and keeps maps that take long on disk if asked to.

    Args:
        method: One of ``METHODS``. ``"slic"``, ``"felzenszwalb"`` and ``"watershed"`` follow the
            image, ``"grid"`` and ``"pixel"`` do not, ``"files"`` reads maps that are there.
        region_size: Side of a region in pixels (slic, grid, watershed).
        ruler: See `slic`.
        iterations: See `slic`.
        scale: See `vice.segmentations.felzenszwalb`, as the next two.
        sigma: Likewise.
        min_size: Likewise.
        compactness: See `vice.segmentations.watershed`.
        folder: Of the maps for ``"files"``, see `vice.region_files.RegionFiles`.
        cache_dir: Folder for maps that follow the image, or None. A file's name is a hash of the
            image's bytes and shape, the method and all its parameters, so one folder serves any
            number of runs and processes.

    Attributes:
        cache: The folder's maps; None where nothing is kept.

    Raises:
        UserError: Unknown method, parameter out of range, no folder of maps where one is needed,
            or a cache folder that cannot be made.
    """

    def __init__(
        self,
        method: Method = "slic",
        region_size: int = 20,
        ruler: float = 10.0,
        iterations: int = 5,
        cache_dir: str | Path | None = None,
        *,
        scale: float = 100.0,
        sigma: float = 0.8,
        min_size: int = 50,
        compactness: float = 1.0,
        folder: str | Path | None = None,
    ) -> None:
        if method not in METHODS:
            raise UserError(f"superpixels: unknown method {method!r}; use {', '.join(METHODS)}")
        if region_size < 1:
            raise UserError(f"superpixels: region_size {region_size} must be at least 1")
        self.method = method
        self.region_size = 1 if method == "pixel" else region_size
        self.files = RegionFiles(folder) if method == "files" else None
        self.cache: RegionCache | None = None
        self._make: Callable[[np.ndarray], np.ndarray] = self._grid
        key = ""
        if method == "slic":
            self._make = partial(slic, region_size=region_size, ruler=ruler, iterations=iterations)
            # Without opencv-contrib and without a cache, the first image says what is missing.
            library = backend() if cache_dir is not None else ""
            key = f"slic-{library}-v{VERSION}-{region_size}-{float(ruler)}-{iterations}"
        elif method == "felzenszwalb":
            self._make = partial(felzenszwalb, scale=scale, sigma=sigma, min_size=min_size)
            key = f"felzenszwalb-v{VERSION}-{float(scale)}-{float(sigma)}-{min_size}"
        elif method == "watershed":
            self._make = partial(watershed, region_size=region_size, compactness=compactness)
            key = f"watershed-v{VERSION}-{region_size}-{float(compactness)}"
        # Grids are quicker made than read, and files are there already.
        if cache_dir is not None and key:
            self.cache = RegionCache(cache_dir, key)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Region map of one image.

        Args:
            image: uint8 RGB, (H, W, 3).

        Returns:
            int32 (H, W), ids contiguous from 0.

        Raises:
            UserError: The method is ``"files"``, which `read` is for.
        """
        check_image(image)
        if self.files is not None:
            raise UserError("superpixels: method 'files' needs the image's file, not its pixels")
        if self.cache is None:
            return self._make(image)
        path = self.cache.path(image)
        regions = self.cache.read(path, (image.shape[0], image.shape[1]))
        if regions is None:
            regions = self._make(image)
            self.cache.write(path, regions)
        return regions

    def read(self, path: str | Path, **sizes: Any) -> tuple[np.ndarray, np.ndarray]:
        """An image file of a standard size, and its region map.

        Args:
            path: The image.
            **sizes: Options of `vice.images.standardize`.

        Returns:
            uint8 (H, W, 3) and int32 (H, W), ids contiguous from 0, -1 where a map on disk has no
            region.

        Raises:
            ImageError: The image, or its map on disk, cannot be read, or they differ in size.
        """
        whole = read_image(path)
        image = standardize(whole, **sizes)
        if self.files is None:
            return image, self(image)
        regions = self.files.read(path, (whole.shape[0], whole.shape[1]))
        # Small regions may be gone in the new size.
        return image, relabel(standardize(regions, **sizes, interpolation="nearest"))

    def _grid(self, image: np.ndarray) -> np.ndarray:
        return grid(image.shape[0], image.shape[1], self.region_size)
