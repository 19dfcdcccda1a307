"""Region maps of an image: SLIC superpixels, grids, and every other method by its name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from vice.errors import UserError
from vice.images import Reading, read_image, standardize
from vice.options import NULL, PATH, POSITIVE, either, number, one_of, option, whole
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


@dataclass(eq=False)
class Superpixels:
    """Makes the region map of an image, and keeps maps that take long on disk if asked to.

    Each field below says what it is and is an argument by that name; the functions by the methods'
    names say more. ``"slic"``, ``"felzenszwalb"`` and ``"watershed"`` follow the image, ``"grid"``
    and ``"pixel"`` do not, ``"files"`` reads maps that are there
    (`vice.superpixels.external.RegionFiles`). A file's name in `cache_dir` is a hash of the image's
    bytes and shape, the method and all its parameters, so one folder serves any number of runs and
    processes.

    Attributes:
        cache: The folder's maps; None where nothing is kept.

    Raises:
        UserError: Unknown method, parameter out of range, no folder of maps where one is needed,
            or a cache folder that cannot be made.
    """

    method: Method = option("slic", one_of(*METHODS), "how an image is parted into regions")
    region_size: int = option(
        20, whole(1, 1000), "side of a region in pixels (slic, grid, watershed)"
    )
    ruler: float = option(10.0, POSITIVE, "weight of a region's shape against its color (slic)")
    iterations: int = option(5, whole(1, 1000), "iterations of slic")
    cache_dir: str | Path | None = option(
        None,
        either(PATH, NULL),
        "folder for maps that follow the image, filled in the first epoch; runs may share one; "
        "null keeps none",
    )
    _: KW_ONLY
    blur_sigma: float | None = option(
        None,
        either(number(0.01, 1000), NULL),
        "standard deviation of the 3x3 blur before it, in pixels; null for the kernel (1, 2, 1) / "
        "4, 4 in the authors' release (slic)",
    )
    scale: float = option(100.0, POSITIVE, "greater values give larger regions (felzenszwalb)")
    sigma: float = option(0.8, number(0, 1000), "smoothing before it, in pixels (felzenszwalb)")
    min_size: int = option(50, whole(1, 10**9), "least pixels of a region (felzenszwalb)")
    compactness: float = option(
        1.0, number(0, 1e6), "greater values give squarer regions (watershed)"
    )
    folder: str | Path | None = option(
        None, either(PATH, NULL), "of maps of ids, NAME.png or NAME.npz for each image (files)"
    )
    files: RegionFiles | None = field(init=False, repr=False)
    cache: RegionCache | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        method, region_size, cache_dir = self.method, self.region_size, self.cache_dir
        if method not in METHODS:
            raise UserError(f"superpixels: unknown method {method!r}; use {', '.join(METHODS)}")
        if region_size < 1:
            raise UserError(f"superpixels: region_size {region_size} must be at least 1")
        self.region_size = 1 if method == "pixel" else region_size
        self.files = RegionFiles(self.folder) if method == "files" else None
        self.cache = None
        self._make: Callable[[np.ndarray], np.ndarray] = self._grid
        key = ""
        if method == "slic":
            ruler, iterations, blur_sigma = self.ruler, self.iterations, self.blur_sigma
            self._make = partial(
                slic,
                region_size=region_size,
                ruler=ruler,
                iterations=iterations,
                blur_sigma=blur_sigma,
            )
            # Missing opencv-contrib: without a cache, the first image says what is missing.
            library = backend() if cache_dir is not None else ""
            key = f"slic-{library}-v{VERSION}-{region_size}-{float(ruler)}-{iterations}"
            # Cache keys: maps that are there were made with the kernel that no number is said for.
            key += "" if blur_sigma is None else f"-blur{float(blur_sigma)}"
        elif method == "felzenszwalb":
            scale, sigma, min_size = self.scale, self.sigma, self.min_size
            self._make = partial(felzenszwalb, scale=scale, sigma=sigma, min_size=min_size)
            key = f"felzenszwalb-v{VERSION}-{float(scale)}-{float(sigma)}-{min_size}"
        elif method == "watershed":
            compactness = self.compactness
            self._make = partial(watershed, region_size=region_size, compactness=compactness)
            key = f"watershed-v{VERSION}-{region_size}-{float(compactness)}"
        # Cache is off: grids are quicker made than read, and files are there already.
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

    def read(
        self, path: str | Path, reading: Reading | None = None, **sizes: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """An image file of a standard size, and its region map.

        Args:
            path: The image.
            reading: As in `vice.images.read_image`.
            **sizes: Options of `vice.images.standardize`.

        Returns:
            uint8 (H, W, 3) and int32 (H, W), ids contiguous from 0, -1 where a map on disk has no
            region.

        Raises:
            ImageError: The image, or its map on disk, cannot be read, or they differ in size.
        """
        whole = read_image(path, reading=reading)
        image = standardize(whole, **sizes)
        if self.files is None:
            return image, self(image)
        regions = self.files.read(path, (whole.shape[0], whole.shape[1]))
        # Renumbering: small regions may be gone in the new size.
        return image, relabel(standardize(regions, **sizes, interpolation="nearest"))

    def _grid(self, image: np.ndarray) -> np.ndarray:
        return grid(image.shape[0], image.shape[1], self.region_size)
