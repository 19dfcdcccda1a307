"""ImageNet's mean and standard deviation, which trunks expect their input in."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)


IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(images: Tensor) -> Tensor:
    """Brings images to the mean and standard deviation that ImageNet trunks expect.

    Args:
        images: (..., 3, H, W), RGB; uint8 in [0, 255] or float in [0, 1].

    Returns:
        float32 tensor of the same shape.
    """
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    mean, std = _statistics(images.device)
    return (images.float() - mean * scale) / (std * scale)


def normalize_bytes(images: Tensor) -> Tensor:
    """`normalize` of images whose channels lie innermost, and stay so in memory.

    Args:
        images: (B, H, W, 3) uint8, RGB.

    Returns:
        float32 (B, 3, H, W), contiguous in `torch.channels_last`.
    """
    batch, height, width, _ = images.shape
    # Rows of pixels: an operation along three channels alone would be none for a vector unit.
    scale, shift = _of_rows(images.device, width)
    rows = images.reshape(batch * height, 3 * width).float()
    return (
        torch.addcmul(shift, rows, scale, out=rows)
        .view(batch, height, width, 3)
        .permute(0, 3, 1, 2)
    )


def denormalize(images: Tensor) -> Tensor:
    """Inverse of `normalize`: float32 (..., 3, H, W) with values in [0, 1] for real images."""
    mean, std = _statistics(images.device)
    return images.float() * std + mean


def _kept(make: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps what a function has made for the same arguments, but not while a graph is traced.

    Tensors are then stand-ins without values, and what is kept would be used afterwards.
    """
    kept = cache(make)

    @wraps(make)
    def made(*arguments: Any) -> Any:
        return (make if torch.compiler.is_compiling() else kept)(*arguments)

    made.forget = kept.cache_clear  # type: ignore[attr-defined]
    return made


@_kept
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    # Kept: what inference makes could not be used in a training later.
    with torch.inference_mode(False):
        mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
        return mean, torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)


@_kept
def _of_rows(device: torch.device, width: int) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        mean, std = (each.view(-1).double() for each in _statistics(device))
        return (1 / (255 * std)).float().repeat(width), (-mean / std).float().repeat(width)
