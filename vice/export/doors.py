"""What a file for another program computes: a model's two doors as one module."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.models.concepts import Concepts
from vice.models.load import is_spherical
from vice.normalize import IMAGENET_MEAN, IMAGENET_STD

#: What the doors take: the bytes of pictures, or what normalization has made of them.
BYTES, NORMALIZED = "bytes", "normalized"
INPUTS = {
    BYTES: "uint8 (B, H, W, 3), RGB; the normalization is inside",
    NORMALIZED: "float32 (B, 3, H, W), RGB from 0 to 1, less ImageNet's mean and divided by its "
    "deviation, which is outside",
}


class Doors(nn.Module):
    """``embed`` and ``segment`` as of `vice.Predictor`, of batches, and nothing but tensors.

    Args:
        embedder: From normalized images to (B, D, h, w); in evaluation mode.
        concepts: What `segment` compares pixels with; None: there is no `segment`.
        takes: One of `INPUTS`.
        groups: int64 (K,), what `segment` gives for each of the K vectors of the concepts, several
            of which may be of one class; None gives the vector's number.
    """

    mean: Tensor
    deviation: Tensor
    vectors: Tensor
    bias: Tensor | None
    groups: Tensor | None

    def __init__(
        self,
        embedder: nn.Module,
        concepts: Concepts | None = None,
        takes: str = BYTES,
        groups: Tensor | None = None,
    ) -> None:
        super().__init__()
        if takes not in INPUTS:
            raise ValueError(f"takes={takes!r} is none of {', '.join(INPUTS)}")
        self.embedder = embedder
        self.takes = takes
        self.spherical = is_spherical(embedder)
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("deviation", 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self.space = "" if concepts is None else concepts.space
        self.register_buffer("vectors", None if concepts is None else concepts.vectors.float())
        bias = None if concepts is None or concepts.bias is None else concepts.bias.float()
        self.register_buffer("bias", bias)
        self.register_buffer("groups", groups)

    def embed(self, images: Tensor) -> Tensor:
        """A vector of each pixel.

        Args:
            images: As `takes` says.

        Returns:
            float32 (B, D, H, W), of unit length where only directions count.
        """
        pixels = self._normalized(images)
        dense = _at_pixels(self.embedder(pixels), pixels)
        return F.normalize(dense, dim=1) if self.spherical else dense

    def segment(self, images: Tensor) -> Tensor:
        """The nearest concept of each pixel, or its group, int64 (B, H, W)."""
        return self.grouped(self.scores(images).argmax(1))

    def grouped(self, nearest: Tensor) -> Tensor:
        """The group of each pixel's nearest vector; same shape."""
        return nearest if self.groups is None else self.groups[nearest]

    def scores(self, images: Tensor) -> Tensor:
        """The score of each vector of the concepts at each pixel, float32 (B, K, H, W)."""
        pixels = self._normalized(images)
        concepts = Concepts(self.vectors, self.bias, self.space)
        return _at_pixels(concepts.scores(self.embedder(pixels)), pixels)

    def _normalized(self, images: Tensor) -> Tensor:
        if self.takes == NORMALIZED:
            return images
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.deviation


def _at_pixels(dense: Tensor, pixels: Tensor) -> Tensor:
    return F.interpolate(dense, pixels.shape[-2:], mode="bilinear", align_corners=False)


class Embed(nn.Module):
    """The door ``embed`` alone, as the module's call."""

    def __init__(self, doors: Doors) -> None:
        super().__init__()
        self.doors = doors

    def forward(self, images: Tensor) -> Tensor:
        """As `Doors.embed`."""
        return self.doors.embed(images)


class Segment(Embed):
    """The door ``segment`` alone, as the module's call."""

    def forward(self, images: Tensor) -> Tensor:
        """As `Doors.segment`."""
        return self.doors.segment(images)
