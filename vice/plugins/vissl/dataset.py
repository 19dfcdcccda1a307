"""VISSL data source ``vice_images``: images with their superpixels and their own randomness."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info
from vissl.data import DATA_SOURCES_WITH_SUBSET_SUPPORT, DATASET_SOURCE_MAP
from vissl.data.dataset_catalog import VisslDatasetCatalog

from vice.errors import UserError
from vice.images import ImageError, list_images
from vice.images.fingerprints import Fingerprint, fingerprint
from vice.runtime.preemption import leave_to_parent
from vice.superpixels import Superpixels

logger = logging.getLogger(__name__)

SOURCE = "vice_images"
#: Images tried in place of one that cannot be used, before the data is called unusable.
MAX_REPLACEMENTS = 50


@dataclass
class ImageSample:
    """One image on its way to becoming views.

    Attributes:
        image: (H, W, 3) uint8 RGB, standardised.
        regions: (H, W) int32 superpixels.
        rng: Source of all randomness of this sample; a function of seed, epoch and index.
        redraw: Returns another image, drawn uniformly, in place of this one.
        skipped: Files that could not be read and the images given up for lack of mutual
            regions, with the reason.
        content: Position in the list of images, and what the image holds, of images that are
            watched.
    """

    image: np.ndarray
    regions: np.ndarray
    rng: np.random.Generator
    redraw: Callable[[str], ImageSample]
    skipped: list[str] = field(default_factory=list)
    content: tuple[int, Fingerprint] | None = None


class ViceImages:
    """Images of a folder or a list file, as VISSL data sources are.

    Args:
        cfg: VISSL's configuration; ``cfg.VICE`` holds STANDARDIZE, SUPERPIXELS and DATASET.
        path: Folder (searched recursively) or list file.
        split: ``"TRAIN"`` or ``"TEST"``.
        dataset_name: Ignored.
        data_source: Always ``vice_images``.

    Raises:
        UserError: The path is missing or holds no image.
    """

    def __init__(
        self, cfg: Any, path: str, split: str, dataset_name: str, data_source: str
    ) -> None:
        options = cfg["VICE"]
        self.paths = [str(file) for file in list_images(Path(path))]
        self.seed = int(cfg["SEED_VALUE"])
        self.epoch = 0
        self.first_epoch: int | None = None
        self.standardize = dict(options["STANDARDIZE"])
        self.superpixels = Superpixels(**options["SUPERPIXELS"])
        wanted = int(options["DATASET"]["min_images_per_epoch"])
        self.repeats = max(1, math.ceil(wanted / len(self.paths)))

    def set_epoch(self, epoch: int) -> None:
        """Called by VISSL before each epoch's workers start."""
        self.epoch = epoch
        if self.first_epoch is None:
            self.first_epoch = epoch

    def num_samples(self) -> int:
        """Samples an epoch; small folders are repeated, with other views each time."""
        return len(self.paths) * self.repeats

    __len__ = num_samples

    def get_image_paths(self) -> list[str]:
        """Every file, once."""
        return self.paths

    def __getitem__(self, index: int) -> tuple[ImageSample, bool]:
        """The sample at an index, and whether it is the image asked for.

        Raises:
            UserError: Too many files in a row cannot be read.
        """
        if get_worker_info() is not None:
            leave_to_parent()
        rng = np.random.default_rng([self.seed, self.epoch, int(index)])
        sample = self._load(int(index) % len(self.paths), rng, [])
        return sample, not sample.skipped

    def _load(self, position: int, rng: np.random.Generator, skipped: list[str]) -> ImageSample:
        while True:
            path = self.paths[position]
            try:
                image, regions = self.superpixels.read(path, **self.standardize)
                break
            except ImageError as error:
                position = self._another(rng, skipped, str(error))

        def redraw(reason: str) -> ImageSample:
            why = f"{path}: {reason}"
            return self._load(self._another(rng, skipped, why), rng, skipped)

        # One look at each image is enough: those of the first epoch after a start.
        watched = self.first_epoch in (None, self.epoch)
        content = (position, fingerprint(image)) if watched else None
        return ImageSample(image, regions, rng, redraw, skipped, content)

    def _another(self, rng: np.random.Generator, skipped: list[str], reason: str) -> int:
        skipped.append(reason)
        if len(skipped) > MAX_REPLACEMENTS:
            raise UserError(
                f"{len(skipped)} images in a row cannot be used, the last one: {reason}; check "
                "the files of config.DATA.TRAIN.DATA_PATHS"
            )
        return int(rng.integers(len(self.paths)))


DATASET_SOURCE_MAP.setdefault(SOURCE, ViceImages)
DATA_SOURCES_WITH_SUBSET_SUPPORT.add(SOURCE)
# VISSL looks for the labels of every data set by name; this one has none.
if not VisslDatasetCatalog.has_data(SOURCE):
    VisslDatasetCatalog.register_data(SOURCE, {"train": ["", ""], "val": ["", ""]})
