"""From an image of any kind to what a network is given, for data loaders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vice.images import Reading
from vice.normalize import normalize
from vice.predictor.given_images import given_image


@dataclass(frozen=True)
class Transform:
    """What `vice.Predictor.embed` gives the network, of an image of any kind; it can be pickled.

    Attributes:
        max_pixels: As of `vice.load`.
        reading: How the model's images are read; None as 8-bit RGB.
    """

    max_pixels: int | None = None
    reading: Reading | None = None

    def __call__(self, image: Any) -> Tensor:
        """An image as `vice.Predictor.embed` takes it to float32 (3, H, W), normalized.

        Raises:
            UserError: It is none, or cannot be read.
        """
        return network_input(self._pixels(image)[None])[0]

    def _pixels(self, image: Any) -> np.ndarray:
        return given_image(image, max_pixels=self.max_pixels, reading=self.reading).pixels


def network_input(pixels: np.ndarray, device: str | torch.device = "cpu") -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) with ImageNet's mean and deviation."""
    batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return normalize(batch.to(device))
