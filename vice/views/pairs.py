"""Pairs of images: a crop, and the same changed in color, turned and mirrored (IIC)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vice.images import resize
from vice.normalize import normalize
from vice.options import FLAG, NULL, either, list_of, number, option, whole
from vice.views.keyed import Operation, generator, uniform
from vice.views.photometric import Photometric, PhotometricParams

#: Ranges of the affine change: degrees of rotation and shear to either side, factors of the scale.
_TURN, _SHEAR, _SCALES = 30.0, 10.0, (0.8, 1.2)


@dataclass(frozen=True)
class PairOptions:
    """How pairs are made of images."""

    image_scale: float = option(
        0.33, number(0.01, 10), "factor on both sides of images before they are cut"
    )
    scales: tuple[float, float] | None = option(
        None,
        either(list_of(number(0.05, 20), 2, 2), NULL),
        "range that a further factor is drawn from for each image; null: none",
    )
    crop_side: int = option(128, whole(8, 2**13), "side of the square crops, pixels")
    affine: bool = option(
        False,
        FLAG,
        "whether second images are turned by up to 30 degrees, sheared by up to 10 and scaled by "
        "0.8 to 1.2",
    )
    mirror: bool = option(True, FLAG, "whether half of the second images are mirrored")


@dataclass
class Pair:
    """A crop and how it is changed, on the way from a worker to the device.

    Attributes:
        pixels: (s, s, 3) uint8, black beyond the image.
        counted: (s, s) bool, pixels that count; never those beyond the image.
        matrix: (2, 2), from the frame of the second image before it is mirrored to the first's.
        mirror: Whether the second is mirrored.
        colors: Change of the second's colors; of one image.
    """

    pixels: np.ndarray
    counted: np.ndarray
    matrix: np.ndarray
    mirror: bool
    colors: PhotometricParams


#: Seed, epoch, number of the image, and of the sample, which an image may have several of.
Key = tuple[int, int, int, int]


def draw_pair(
    image: np.ndarray,
    counted: np.ndarray | None,
    key: Key,
    options: PairOptions,
    photometric: Photometric,
) -> Pair:
    """Draws a pair; the same key gives the same pair.

    Args:
        image: (H, W, 3) uint8.
        counted: (H, W) bool, pixels of the image that count; None for all.
        key: See `Key`.
        options: How.
        photometric: Draws the change of colors.
    """
    factor = options.image_scale
    if options.scales is not None:
        least, most = options.scales
        factor *= least + (most - least) * float(uniform(*key, Operation.SCALE, 1)[0])
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    pixels = resize(image, height, width, "bilinear")
    known = np.ones((height, width), bool)
    if counted is not None:
        known = resize(counted.astype(np.uint8), height, width, "nearest") > 0
    place = uniform(*key, Operation.CROP, 2)
    mirror = options.mirror and bool(uniform(*key, Operation.MIRROR, 1)[0] < 0.5)
    matrix = affine_matrix(uniform(*key, Operation.AFFINE, 3)) if options.affine else np.eye(2)
    side = options.crop_side
    return Pair(
        _crop(pixels, side, place),
        _crop(known, side, place),
        matrix,
        mirror,
        photometric.draw(generator(*key, Operation.JITTER), 1),
    )


def _crop(image: np.ndarray, side: int, place: np.ndarray) -> np.ndarray:
    """A square of an image with zeros around it where it is smaller, on both sides alike."""
    missing = [max(0, side - length) for length in image.shape[:2]]
    if any(missing):
        around = [(each // 2, each - each // 2) for each in missing]
        image = np.pad(image, around + [(0, 0)] * (image.ndim - 2))
    row, column = (
        int(share * (length - side + 1))
        for share, length in zip(place, image.shape[:2], strict=True)
    )
    return np.ascontiguousarray(image[row : row + side, column : column + side])


def affine_matrix(u: Sequence[float] | np.ndarray) -> np.ndarray:
    """Rotation, shear and scale of three numbers in [0, 1); float64 (2, 2).

    ``[[s cos a, -s sin(a + h)], [s sin a, s cos(a + h)]]`` in the frame from -1 to 1.
    """
    turn, shear = (
        math.radians(most * (2 * each - 1)) for most, each in ((_TURN, u[0]), (_SHEAR, u[1]))
    )
    scale = _SCALES[0] + (_SCALES[1] - _SCALES[0]) * u[2]
    return scale * np.array(
        [
            [math.cos(turn), -math.sin(turn + shear)],
            [math.sin(turn), math.cos(turn + shear)],
        ]
    )


def collate_pairs(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Pairs as few large tensors.

    Returns:
        ``pixels``: (B, 3, s, s) uint8. ``counted``: (B, s, s) bool. ``matrices``, ``back``:
        (B, 2, 2) float32, `Pair.matrix`, and from the first image's frame to the second's.
        ``mirrors``: (B,) bool. ``colors``: `PhotometricParams` of B images.
    """
    pixels = np.stack([pair.pixels for pair in pairs]).transpose(0, 3, 1, 2)
    # The inverse of mirroring after the affine change.
    back = [
        np.diag([-1.0 if pair.mirror else 1.0, 1.0]) @ np.linalg.inv(pair.matrix) for pair in pairs
    ]
    return {
        "pixels": torch.from_numpy(np.ascontiguousarray(pixels)),
        "counted": torch.from_numpy(np.stack([pair.counted for pair in pairs])),
        "matrices": torch.from_numpy(np.stack([pair.matrix for pair in pairs])).float(),
        "back": torch.from_numpy(np.stack(back)).float(),
        "mirrors": torch.tensor([pair.mirror for pair in pairs]),
        "colors": PhotometricParams.concatenate([pair.colors for pair in pairs]),
    }


def finish_pairs(
    collated: dict[str, Any],
    device: torch.device,
    photometric: Photometric,
    *,
    affine: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs as the network takes them.

    Args:
        collated: What `collate_pairs` returns.
        device: Where.
        photometric: What has drawn the change of colors.
        affine: Whether there is an affine change.

    Returns:
        First and second images, (B, 3, s, s) float32 each, normalized, black beyond the image;
        (B, s, s) bool, pixels of the first that count; and (B, 2, 2), from its frame to that of
        the second, as `vice.losses.iic.warp` takes it.
    """
    pixels, counted, matrices, back, mirrors = (
        collated[name].to(device, non_blocking=True)
        for name in ("pixels", "counted", "matrices", "back", "mirrors")
    )
    second = photometric(pixels, collated["colors"])
    if affine:
        black = normalize(torch.zeros(1, 3, 1, 1, dtype=torch.uint8, device=device))
        grid = F.affine_grid(F.pad(matrices, (0, 1)), list(second.shape), align_corners=True)
        moved = F.grid_sample(second - black, grid, "bilinear", "zeros", align_corners=True)
        second = moved + black
    second = torch.where(mirrors[:, None, None, None], second.flip(-1), second)
    return normalize(pixels), second, counted, back
