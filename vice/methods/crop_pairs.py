"""A crop of an image and one of its neighbors, with the points at which they are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode

from vice.images.five_crops import FIVE, five_crop_box
from vice.losses.stego import Places
from vice.methods.context import Source
from vice.methods.label_folder import read_labels_of
from vice.methods.neighbor_table import read_table
from vice.options import one_of, option, whole
from vice.superpixels.external import RegionFiles
from vice.views.keyed import square

#: Crops of an image by what the option says, and the share of its sides that each has.
CROPS = {"five": (FIVE, 0.5), "whole": (1, 1.0)}


@dataclass(frozen=True)
class CropOptions:
    """Which parts of images are compared, and where."""

    crops: str = option(
        "five",
        one_of(*CROPS),
        "parts of an image: its four corners and its center, each with half its sides, one an "
        "epoch; or the whole image",
    )
    crop_side: int = option(
        224,
        whole(16, 2**13),
        "shorter side that they are brought to, by the nearest pixel, and side of the middle "
        "square, pixels",
    )
    neighbors: int = option(
        7, whole(1, 10**4), "nearest neighbors of a crop among all, one of which it is paired with"
    )
    points: int = option(
        11, whole(1, 256), "a crop is compared with another at the square of so many points in each"
    )
    random_pairs: int = option(5, whole(1, 100), "other crops of the batch it is compared with")


@dataclass
class CropPair:
    """What is compared of one crop.

    Attributes:
        pixels: uint8 (2, side, side, 3), the crop and its neighbor.
        points: float32 (2, P, 2), where each is sampled, from -1 to 1.
        order: float64 (draws,), by which the batch is put in random orders.
        labels: uint8 (side, side) of the crop, or (0, 0).
    """

    pixels: np.ndarray
    points: np.ndarray
    order: np.ndarray
    labels: np.ndarray


def cut_crop(image: np.ndarray, number: int, options: CropOptions) -> np.ndarray:
    """A crop as it is compared.

    Args:
        image: uint8 (H, W, 3), or labels (H, W).
        number: Of the crop, from 0.
        options: Say which there are.

    Returns:
        (side, side, 3) or (side, side).
    """
    height, width = image.shape[:2]
    top, left, tall, wide = five_crop_box(height, width, number, CROPS[options.crops][1])
    # Of a single pixel there is no half.
    cut = image[top : top + max(tall, 1), left : left + max(wide, 1)]
    shown = square(np.ascontiguousarray(cut), options.crop_side, InterpolationMode.NEAREST)
    return np.asarray(shown)


@dataclass(frozen=True)
class ReadCrops:
    """Reads all crops of an image, uint8 (crops, side, side, 3)."""

    options: CropOptions

    def __call__(self, source: Source, index: int) -> np.ndarray:
        """The crops of the image at an index."""
        image, count = source.image(index), CROPS[self.options.crops][0]
        return np.stack([cut_crop(image, number, self.options) for number in range(count)])


class CropPairs:
    """Draws pairs of crops, and puts those of several images together.

    Args:
        options: How they are drawn.
        labels: Where label maps of the images are; None: there are none.
    """

    def __init__(self, options: CropOptions, labels: RegionFiles | None) -> None:
        self.options, self.labels = options, labels
        self.count = CROPS[options.crops][0]
        self._table: np.ndarray | None = None

    def draw(
        self, source: Source, index: int, rng: np.random.Generator, epoch: int | None = None
    ) -> CropPair:
        """The image's crop of an epoch, each of five in five epochs, and a neighbor of it."""
        options, epoch = self.options, source.epoch if epoch is None else epoch
        turns = np.random.default_rng([source.seed, epoch // self.count, index])
        number = int(turns.permutation(self.count)[epoch % self.count])
        other = self._neighbor(source, self.count * index + number, rng)
        near = cut_crop(source.image(other // self.count), other % self.count, options)
        # Last: the image that was read last is the one that the sample is of.
        image = source.image(index)
        own = cut_crop(image, number, options)
        points = rng.uniform(-1, 1, (2, options.points**2, 2)).astype(np.float32)
        labels = np.zeros((0, 0), np.uint8)
        if self.labels is not None:
            known = read_labels_of(source.path(index), image, self.labels)
            labels = cut_crop(known, number, options)
        return CropPair(np.stack([own, near]), points, rng.random(options.random_pairs), labels)

    def _neighbor(self, source: Source, crop: int, rng: np.random.Generator) -> int:
        """One of the nearest crops; the crop itself where it is the only one."""
        if self._table is None:
            self._table = read_table(source.folder)
        near = self._table[crop, 1 : 1 + self.options.neighbors]
        near = near[near >= 0]
        return int(rng.choice(near)) if len(near) else crop


def collate_crops(samples: Sequence[CropPair]) -> dict[str, Any]:
    """Samples as few large tensors.

    Returns:
        ``pixels``: uint8 (2, B, side, side, 3). ``places``: `Places` of the crops.
    """

    def stacked(values: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(values))

    points = stacked([sample.points for sample in samples])
    return {
        "pixels": stacked([sample.pixels for sample in samples]).transpose(0, 1).contiguous(),
        "places": Places(
            points[:, 0],
            points[:, 1],
            stacked([sample.order for sample in samples]),
            stacked([sample.labels for sample in samples]),
        ),
    }
