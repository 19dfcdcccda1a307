"""Two views of an image and of its objects, drawn until both show enough of them (MaskContrast)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vice.losses.objects import Objects
from vice.methods.batch import Unusable
from vice.methods.context import Source
from vice.options import list_of, number, option, whole
from vice.runtime.device import to_device
from vice.views.photometric import Photometric, PhotometricParams

#: Other images that are tried in place of one, before the images are given up.
MOST_OTHERS = 50
#: Crops that are tried for one of the right shape, before the middle is taken.
_CROPS = 10


@dataclass(frozen=True)
class ObjectViewOptions:
    """How two views are made of an image."""

    view_side: int = option(224, whole(8, 2**13), "side of both views, pixels")
    crop_area: tuple[float, float] = option(
        (0.2, 1.0),
        list_of(number(1e-4, 1), 2, 2),
        "least and greatest share of the image that a view shows",
    )
    crop_ratio: tuple[float, float] = option(
        (0.75, 4 / 3),
        list_of(number(0.01, 100), 2, 2),
        "least and greatest width to height of what a view shows",
    )
    least_cover: float = option(
        0.01,
        number(0, 0.5),
        "share of a view that its objects, and its background, must exceed",
    )
    draws: int = option(
        3, whole(1, 1000), "draws of an image's views before another image takes its place"
    )


@dataclass
class DrawnObjects:
    """Two views of one image.

    Attributes:
        pixels: uint8 (2, side, side, 3), query and key.
        objects: uint8 (2, side, side), numbers of the objects, 0 for background.
        params: What is to happen to the colors of each.
        tries: Whether views were drawn more than once, and whether they are of another image.
    """

    pixels: np.ndarray
    objects: np.ndarray
    params: PhotometricParams
    tries: tuple[bool, bool]


class ObjectViews:
    """Draws views, puts those of several images together, and finishes them on a device.

    Args:
        options: How they are drawn.
        photometric: Draws and makes the change of colors.
        most: Most objects of an image.
        change_on: Who changes colors, ``"workers"`` or ``"device"``.
    """

    def __init__(
        self, options: ObjectViewOptions, photometric: Photometric, most: int, change_on: str
    ) -> None:
        self.options = options
        self.photometric = photometric
        self.most = most
        self.change_on = change_on

    def draw(self, source: Source, index: int, rng: np.random.Generator) -> DrawnObjects:
        """Views of an image, or of another one where several draws failed.

        Raises:
            Unusable: Many others failed too.
        """
        image, objects = source.image_and_objects(index)
        # Nothing to see: no draw could show it.
        draws = self.options.draws if objects.any() else 0
        for attempt in range(draws):
            if (views := self._views(image, objects, rng)) is not None:
                return self._colored(*views, rng, (attempt > 0, False))
        for _ in range(MOST_OTHERS):
            other = int(rng.integers(len(source)))
            if (views := self._views(*source.image_and_objects(other), rng)) is not None:
                return self._colored(*views, rng, (True, True))
        raise Unusable(
            f"neither its views nor those of {MOST_OTHERS} other images show more than "
            f"{self.options.least_cover:.1%} of objects and of background: look at the masks"
        )

    def _views(
        self, image: np.ndarray, objects: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Two of them, or None if one shows too little."""
        drawn = [self._view(image, objects, rng) for _ in range(2)]
        least = self.options.least_cover
        if not all(least < float((shown > 0).mean()) < 1 - least for _, shown in drawn):
            return None
        pixels, shown = zip(*drawn, strict=True)
        return np.stack(pixels), np.stack(shown)

    def _view(
        self, image: np.ndarray, objects: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        top, left, height, width = self._crop(image.shape[0], image.shape[1], rng)
        place = (slice(top, top + height), slice(left, left + width))
        size = (self.options.view_side, self.options.view_side)
        cut = Image.fromarray(np.ascontiguousarray(image[place]))
        pixels = np.asarray(cut.resize(size, Image.Resampling.BILINEAR))
        mask = Image.fromarray(np.ascontiguousarray(objects[place]))
        shown = np.asarray(mask.resize(size, Image.Resampling.NEAREST))
        return (pixels[:, ::-1], shown[:, ::-1]) if rng.random() < 0.5 else (pixels, shown)

    def _crop(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """First row and column, height and width of a crop, as torchvision draws them."""
        low, high = self.options.crop_ratio
        for _ in range(_CROPS):
            area = height * width * rng.uniform(*self.options.crop_area)
            ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top = int(rng.integers(0, height - h + 1))
                return top, int(rng.integers(0, width - w + 1)), h, w
        w = min(width, max(1, round(height * high)))
        h = min(height, max(1, round(width / low)))
        return (height - h) // 2, (width - w) // 2, h, w

    def _colored(
        self,
        pixels: np.ndarray,
        objects: np.ndarray,
        rng: np.random.Generator,
        tries: tuple[bool, bool],
    ) -> DrawnObjects:
        return DrawnObjects(pixels, objects, self.photometric.draw(rng, len(pixels)), tries)

    def collate(self, samples: Sequence[DrawnObjects]) -> dict[str, Any]:
        """Samples as few large tensors.

        Returns:
            ``images``: (2 B, 3, side, side), queries and then keys, finished float32 or uint8;
            ``photometric``: what is to happen to the latter, or None; ``objects``: `Objects`.
        """
        pixels = np.stack([sample.pixels for sample in samples], axis=1)
        images = torch.from_numpy(pixels).flatten(0, 1).permute(0, 3, 1, 2).contiguous()
        params = PhotometricParams.concatenate([sample.params for sample in samples])
        params = params[np.arange(len(params)).reshape(-1, 2).T.ravel()]
        queries, keys = torch.from_numpy(np.stack([each.objects for each in samples], axis=1))
        tries = torch.tensor([sample.tries for sample in samples]).float().sum(0)
        objects = Objects.of(queries.contiguous(), keys.contiguous(), self.most, tries)
        if self.change_on == "workers":
            return {
                "images": self.photometric(images, params),
                "photometric": None,
                "objects": objects,
            }
        return {"images": images, "photometric": params, "objects": objects}

    def finish(
        self, collated: dict[str, Any], device: torch.device
    ) -> tuple[Tensor, Tensor, Objects]:
        """Queries and keys (B, 3, side, side) and their objects, on the device."""
        images = to_device(collated["images"].numpy(), device)
        if collated["photometric"] is not None:
            images = self.photometric(images, collated["photometric"])
        queries, keys = images.chunk(2)
        return queries, keys, collated["objects"].to(device)


@dataclass(frozen=True)
class WholeImage:
    """Reads an image and its objects as squares of (side, side), without regard to their shape."""

    side: int

    def __call__(self, source: Source, index: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (side, side, 3) and (side, side)."""
        image, objects = source.image_and_objects(index)
        size = (self.side, self.side)
        pixels = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
        shown = Image.fromarray(objects).resize(size, Image.Resampling.NEAREST)
        return np.asarray(pixels), np.asarray(shown)
