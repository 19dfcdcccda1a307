"""VISSL data source ``vice_images``: what a method makes of images, each by its own randomness."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info
from vissl.data import DATA_SOURCES_WITH_SUBSET_SUPPORT, DATASET_SOURCE_MAP
from vissl.data.dataset_catalog import VisslDatasetCatalog

from vice.errors import UserError
from vice.images import ImageError, list_images, read_image, reading_of, standardize
from vice.images.fingerprints import Fingerprint, fingerprint
from vice.methods import Unusable, build_method
from vice.plugins.vissl.lasting_workers import SharedEpoch
from vice.runtime.kept_arrays import KeptArrays
from vice.runtime.preemption import ignore_job_signals
from vice.superpixels import Foregrounds, Superpixels

logger = logging.getLogger(__name__)

SOURCE = "vice_images"
#: What makes an image give no sample.
UNUSABLE = (ImageError, Unusable)
#: Images tried in place of one that cannot be used, before the data is called unusable.
MAX_REPLACEMENTS = 50


@dataclass
class MethodSample:
    """What a method made of one image, on its way into a batch.

    Attributes:
        drawn: What `Method.sample` returned.
        collate: The method's; VISSL gives a collator nothing but samples.
        skipped: Images that were tried before and could not be used, with the reason.
        content: Position in the list of images, and what the image holds, of images that are
            watched.
    """

    drawn: Any
    collate: Callable[[Sequence[Any]], dict[str, Any]]
    skipped: list[str]
    content: tuple[int, Fingerprint] | None = None


class Images:
    """A `vice.methods.Source`: images of standardized size with their superpixels.

    Args:
        paths: Files.
        settings: ``config.VICE``; ``SUPERPIXELS`` is there if the method has regions,
            ``FOREGROUND`` if it has objects.
        seed: Of the run.
        folder: Of the run.
    """

    def __init__(
        self,
        paths: list[str],
        settings: Mapping[str, Any],
        seed: int = 0,
        folder: str | Path = ".",
    ) -> None:
        self.paths = paths
        self.folder = Path(folder)
        self.seed, self._epoch = seed, SharedEpoch()
        self.standardize = dict(settings["STANDARDIZE"])
        self.reading = reading_of(settings)
        regions = settings.get("SUPERPIXELS")
        self.superpixels = None if regions is None else Superpixels(**regions)
        objects = settings.get("FOREGROUND")
        self.foregrounds = None if objects is None else Foregrounds(**objects)
        self.last: tuple[int, np.ndarray] | None = None
        # Bytes a pixel of what is kept.
        kinds = {"image": 3, **({} if regions is None else {"regions": 4, "made": 1})}
        kinds |= {} if objects is None else {"objects": 1}
        self._kept = KeptArrays(len(paths), kinds, int(settings["DATASET"]["keep_mib"]) * 2**20)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def epoch(self) -> int:
        """Which epoch views are drawn for, in this process and those that load data for it."""
        return self._epoch.get()

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.set(epoch)

    def at(self, epoch: int) -> Images:
        """The same images in another epoch, whatever the one of these comes to be."""
        images = copy(self)
        images._epoch = SharedEpoch(epoch)
        return images

    def path(self, index: int) -> str:
        """The file."""
        return self.paths[index]

    def refusal(self, index: int, error: Exception) -> str:
        """Which file cannot be used, and why; errors of reading name it themselves."""
        return str(error) if isinstance(error, ImageError) else f"{self.path(index)}: {error}"

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        image = self._kept.get(
            "image", index, lambda: standardize(self._read(index), **self.standardize)
        )
        self.last = index, image
        return image

    def _read(self, index: int) -> np.ndarray:
        return read_image(self.paths[index], reading=self.reading)

    def kept(self, index: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """What a method makes of an image, (H, W) uint8, and makes the same each time."""
        return self._kept.get("made", index, make)

    def image_and_regions(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The image and its superpixels, (H, W) int32."""
        if self.superpixels is None:
            raise ValueError("the method does not name SUPERPIXELS among its sections")
        return self._with(index, "regions", self.superpixels.read)

    def image_and_objects(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The image and the numbers of its objects, (H, W) uint8."""
        if self.foregrounds is None:
            raise ValueError("the method does not name FOREGROUND among its sections")
        return self._with(index, "objects", self.foregrounds.read)

    def _with(
        self, index: int, kind: str, read: Callable[..., tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        image, labels = (self._kept.read(name, index) for name in ("image", kind))
        if image is None or labels is None:
            image, labels = read(self.paths[index], self.reading, **self.standardize)
            for name, array in (("image", image), (kind, labels)):
                self._kept.write(name, index, array)
        self.last = index, image
        return image, labels


class ViceImages:
    """Images of a folder or a list file, as VISSL data sources are.

    Args:
        cfg: VISSL's configuration; ``cfg.VICE`` says which method, and what it needs.
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
        self.first_epoch: int | None = None
        self.method = build_method(options)
        folder = cfg.get("CHECKPOINT", {}).get("DIR", ".")
        self.images = Images(self.paths, options, self.seed, folder)
        wanted = int(options["DATASET"]["min_images_per_epoch"])
        self.repeats = max(1, math.ceil(wanted / len(self.paths)))

    def set_epoch(self, epoch: int) -> None:
        """Called by VISSL before an epoch's first sample is asked for."""
        self.images.epoch = epoch
        if self.first_epoch is None:
            self.first_epoch = epoch

    def num_samples(self) -> int:
        """Samples an epoch; small folders are repeated, with other views each time."""
        return len(self.paths) * self.repeats

    __len__ = num_samples

    def get_image_paths(self) -> list[str]:
        """Every file, once."""
        return self.paths

    def __getitem__(self, index: int) -> tuple[MethodSample, bool]:
        """The sample at an index, and whether it is of the image asked for.

        Raises:
            UserError: Too many images in a row cannot be used.
        """
        if get_worker_info() is not None:
            ignore_job_signals()
        rng = np.random.default_rng([self.seed, self.images.epoch, int(index)])
        position, skipped = int(index) % len(self.paths), list[str]()
        while True:
            try:
                drawn = self.method.sample(self.images, position, rng)
                break
            except UNUSABLE as error:
                skipped.append(self.images.refusal(position, error))
            position = self._another(rng, skipped)
        sample = MethodSample(drawn, self.method.collate, skipped, self._content(position))
        return sample, not skipped

    def _content(self, position: int) -> tuple[int, Fingerprint] | None:
        # One look at each image is enough: those of the first epoch after a start.
        if self.first_epoch not in (None, self.images.epoch) or self.images.last is None:
            return None
        index, image = self.images.last
        return (index, fingerprint(image)) if index == position else None

    def _another(self, rng: np.random.Generator, skipped: list[str]) -> int:
        if len(skipped) > MAX_REPLACEMENTS:
            raise UserError(
                f"{len(skipped)} images in a row cannot be used, the last one: {skipped[-1]}; "
                "check the files of config.DATA.TRAIN.DATA_PATHS"
            )
        return int(rng.integers(len(self.paths)))


DATASET_SOURCE_MAP.setdefault(SOURCE, ViceImages)
DATA_SOURCES_WITH_SUBSET_SUPPORT.add(SOURCE)
# Label source: VISSL looks for every data set's by name; this one has none.
if not VisslDatasetCatalog.has_data(SOURCE):
    VisslDatasetCatalog.register_data(SOURCE, {"train": ["", ""], "val": ["", ""]})
