"""Foreground of an image: its objects, from files or by a saliency that is built in."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vice.errors import OptionError
from vice.images import ImageError, Reading, read_image, standardize
from vice.nearest import near_path
from vice.options import NULL, PATH, either, number, one_of, option, whole
from vice.superpixels.cache import RegionCache
from vice.superpixels.external import RegionFiles
from vice.superpixels.saliency import SIDE, SUPERPIXELS, VERSION, salient_mask
from vice.superpixels.slic_opencv import backend

#: Grey levels of a mask of one object above which it is taken for a map of probabilities.
_MOST_LEVELS = 64


@dataclass(eq=False)
class Foregrounds:
    """Reads an image with the numbers of its objects.

    Maps from files have 0 for background: a mask of 0 and 1 or 0 and 255 shows one object, and a
    map of ids an object for each. ``objects="one"`` takes all that is not 0 for one object;
    ``"connected"`` gives each id, or each connected part of a map with a single one, a number.

    Raises:
        OptionError: No folder of masks where one is needed.
        UserError: The folder is not there, or a cache folder cannot be made.
    """

    _: KW_ONLY
    source: str = option(
        "files",
        one_of("files", "builtin"),
        "where the foreground comes from: files of masks, or a built-in saliency (boundary "
        "connectivity of superpixels), which is no part of any paper's method",
    )
    folder: str | Path | None = option(
        None, either(PATH, NULL), "of masks, NAME.png or NAME.npz for each image (files)"
    )
    objects: str = option(
        "one",
        one_of("one", "connected"),
        "objects of an image: one, or every id or connected part by itself",
    )
    most_objects: int = option(
        8, whole(1, 255), "most objects of an image, the largest ones (connected)"
    )
    least_area: float = option(
        0.01,
        number(0, 1),
        "share of the image below which a part of the built-in foreground, or an object "
        "(connected), is left out",
    )
    cache_dir: str | Path | None = option(
        None,
        either(PATH, NULL),
        "folder for the built-in foregrounds, filled in the first epoch; runs may share one; null "
        "keeps none",
    )
    files: RegionFiles | None = field(init=False, repr=False)
    cache: RegionCache | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.files, self.cache = None, None
        if self.source == "files":
            # Path length: os.path has an answer for names too long for the disk, too.
            if self.folder is None or not os.path.isdir(self.folder):
                wrong = "is not given" if self.folder is None else f"{self.folder} does not exist"
                wrong += "" if self.folder is None else near_path(self.folder)
                raise OptionError(
                    "the folder of masks {wrong}: set {Foregrounds.folder}=FOLDER, or take the "
                    "built-in saliency ({source}=builtin)",
                    wrong=wrong,
                )
            self.files = RegionFiles(self.folder, "mask")
        elif self.cache_dir is not None:
            key = f"saliency-{backend()}-v{VERSION}-{SIDE}-{SUPERPIXELS}"
            self.cache = RegionCache(self.cache_dir, key)

    @property
    def most(self) -> int:
        """Most objects of an image."""
        return 1 if self.objects == "one" else self.most_objects

    def read(
        self, path: str | Path, reading: Reading | None = None, **sizes: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """An image file of a standard size, and its objects.

        Args:
            path: The image.
            reading: As in `vice.images.read_image`.
            **sizes: Options of `vice.images.standardize`.

        Returns:
            uint8 (H, W, 3) and uint8 (H, W), numbers from 1, the largest object first, 0 for
            background.

        Raises:
            ImageError: The image, or its mask, cannot be read, or they differ in size.
        """
        whole_image = read_image(path, reading=reading)
        image = standardize(whole_image, **sizes)
        if self.files is None:
            return image, self.of(self._salient(image))
        ids = self.files.read_ids(path, (whole_image.shape[0], whole_image.shape[1]))
        levels = len(np.unique(ids))
        if self.objects == "one" and levels > _MOST_LEVELS:
            raise ImageError(
                f"{self.files.find(path)}: {levels} values, so that it looks like a map of "
                "probabilities: put a threshold to it first, 0 for background"
            )
        ids = np.maximum(ids, 0)
        if ids.max(initial=0) > np.iinfo(np.int32).max:
            ids = np.unique(ids, return_inverse=True)[1].reshape(ids.shape) + int(ids.min() > 0)
        ids = ids.astype(np.int32)
        return image, self.of(standardize(ids, **sizes, interpolation="nearest"))

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Numbers of the objects of a map of ids, as `read` gives them.

        Args:
            ids: Integers or bool (H, W), 0 for background.
        """
        shown = ids > 0
        if self.objects == "one":
            return shown.astype(np.uint8)
        if len(np.unique(ids[shown])) < 2:
            ids = cv2.connectedComponents(shown.astype(np.uint8), connectivity=8)[1]
        names, sizes = np.unique(ids[ids > 0], return_counts=True)
        large = np.flatnonzero(sizes >= self.least_area * ids.size)
        # Equal sizes: the one of the lower id comes first.
        order = large[np.argsort(-sizes[large], kind="stable")][: self.most_objects]
        numbers = np.zeros(ids.shape, np.uint8)
        for number_, name in enumerate(names[order], 1):
            numbers[ids == name] = number_
        return numbers

    def _salient(self, image: np.ndarray) -> np.ndarray:
        """The built-in foreground without its small parts, bool (H, W)."""
        path = None if self.cache is None else self.cache.path(image)
        found = None
        if self.cache is not None and path is not None:
            found = self.cache.read(path, (image.shape[0], image.shape[1]))
        if found is None:
            found = salient_mask(image).astype(np.int32)
            if self.cache is not None and path is not None:
                self.cache.write(path, found)
        parts = cv2.connectedComponents((found > 0).astype(np.uint8), connectivity=8)[1]
        sizes = np.bincount(parts.ravel())
        return np.asarray((sizes >= self.least_area * parts.size)[parts] & (found > 0))
