"""PiCIE's views of an image on their way from a worker to the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vice.methods.context import Source
from vice.normalize import normalize
from vice.views.feature_crop import crop_resize
from vice.views.keyed import Geometry, KeyedOptions, change_colors, square


@dataclass
class DrawnViews:
    """Views of one image.

    Attributes:
        image: Position in the list of images.
        first: (side, side, 3) uint8, not cut yet.
        second: (h, w, 3) uint8, the size of the views, or None.
        geometry: Where the first lies in the second.
    """

    image: int
    first: np.ndarray
    second: np.ndarray | None
    geometry: Geometry


@dataclass(frozen=True)
class ViewReader:
    """Reads an image as the views of the source's epoch, the same ones in every pass.

    Attributes:
        options: How they are made.
        views: 1 or 2.
        plain_first: Whether the first view keeps the image's colors.
    """

    options: KeyedOptions
    views: int
    plain_first: bool = False

    def __call__(self, source: Source, index: int) -> DrawnViews:
        """The views of the image at an index."""
        key = (source.seed, source.epoch, index)
        base = square(source.image(index), self.options.image_side)
        first = base if self.plain_first else change_colors(base, *key, 0, self.options)
        second = None
        if self.views == 2:
            size = (self.options.view_side, self.options.view_side)
            changed = change_colors(base, *key, 1, self.options)
            second = np.asarray(changed.resize(size, Image.Resampling.BILINEAR))
        geometry = Geometry.draw(*key, self.options)
        return DrawnViews(index, np.asarray(first), second, geometry)


@dataclass(frozen=True)
class PlainSquare:
    """Reads the middle square of an image as it is, (size, size, 3) uint8."""

    size: int

    def __call__(self, source: Source, index: int) -> np.ndarray:
        """The square of the image at an index."""
        return np.asarray(square(source.image(index), self.size))


def collate_views(samples: Sequence[DrawnViews]) -> dict[str, Any]:
    """Samples as few large tensors.

    Returns:
        ``first`` and ``second``: (B, h, w, 3) uint8 (or None). ``boxes``, ``cells``: (B, 3) int64.
        ``flips``: (B,) bool. ``images``: (B,) int64.
    """
    geometries = [sample.geometry for sample in samples]
    seconds = [sample.second for sample in samples if sample.second is not None]
    return {
        "first": stack_pixels([sample.first for sample in samples]),
        "second": stack_pixels(seconds) if seconds else None,
        "boxes": torch.tensor([each.box for each in geometries]),
        "cells": torch.tensor([each.cells for each in geometries]),
        "flips": torch.tensor([each.flip for each in geometries]),
        "images": torch.tensor([sample.image for sample in samples]),
    }


def stack_pixels(images: Sequence[np.ndarray]) -> Tensor:
    """Images (h, w, 3) as one (B, h, w, 3): channels are moved to the front on the device."""
    return torch.from_numpy(np.stack(images))


def to_network(pixels: Tensor, device: torch.device) -> Tensor:
    """Pixels (B, h, w, 3) uint8 as float (B, 3, h, w) on the device, still from 0 to 255."""
    # Transposed as bytes: a quarter of what floats would move.
    return pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).contiguous().float()


def pinned(collated: dict[str, Any]) -> dict[str, Any]:
    """The same in memory that a GPU reads while the host goes on."""
    return {name: each if each is None else each.pin_memory() for name, each in collated.items()}


def finish_views(
    collated: dict[str, Any], device: torch.device, size: int
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Views as the network takes them.

    Args:
        collated: What `collate_views` returns.
        device: Where.
        size: Side of the views, in pixels.

    Returns:
        A list of (B, 3, size, size), the boxes (B, 3) of the first in cells of the second's
        embedding, and the flips (B,).
    """
    boxes, cells, flips = (
        collated[name].to(device, non_blocking=True) for name in ("boxes", "cells", "flips")
    )
    # Sampled as it lies in memory: few of its pixels are read, and the view is contiguous.
    first = collated["first"].to(device, non_blocking=True).permute(0, 3, 1, 2).float()
    # Both are linear, and the view has fewer pixels than the image.
    views = [normalize(crop_resize(first, boxes, flips, size) / 255)]
    if collated["second"] is not None:
        views.append(normalize(to_network(collated["second"], device) / 255))
    return views, cells, flips
