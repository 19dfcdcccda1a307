"""Region maps of an image: SLIC superpixels, grids, and every other method by its name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from vice.errors import UserError
from vice.images import read_image, standardize
from vice.superpixels.cache import RegionCache
from vice.superpixels.external import RegionFiles
from vice.superpixels.region_ids import check_image, relabel
from vice.superpixels.scikit_image import felzenszwalb, watershed
from vice.superpixels.slic_opencv import backend, grid, slic

logger = logging.getLogger(__name__)
Method = Literal["slic", "grid", "pixel", "felzenszwalb", "watershed", "files"]
METHODS: tuple[str, ...] = get_args(Method)

# Part of every cache key: raise it whenever the same parameters would give other maps.
VERSION = 1


class Superpixels:
    """Makes the region map of an image, and keeps maps that take long on disk if asked to.

    Args:
        method: One of ``METHODS``. ``"slic"``, ``"felzenszwalb"`` and ``"watershed"`` follow the
            image, ``"grid"`` and ``"pixel"`` do not, ``"files"`` reads maps that are there.
        region_size: Side of a region in pixels (slic, grid, watershed).
        ruler: See `slic`.
        iterations: See `slic`.
        scale: See `vice.superpixels.scikit_image.felzenszwalb`, as the next two.
        sigma: Likewise.
        min_size: Likewise.
        compactness: See `vice.superpixels.scikit_image.watershed`.
        folder: Of the maps for ``"files"``, see `vice.superpixels.external.RegionFiles`.
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
