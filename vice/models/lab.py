"""Baselines: raw pixels and Lab colors as embeddings, to be beaten by anything learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vice.normalize import IMAGENET_MEAN, IMAGENET_STD

# IEC 61966-2-1 primaries and the D65 white point of the 2 degree observer.
RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
WHITE = (0.95047, 1.0, 1.08883)


def rgb_to_lab(images: Tensor) -> Tensor:
    """Converts sRGB colours to CIE L*a*b* (D65, 2 degree observer).

    Args:
        images: (B, 3, H, W) float, gamma-encoded sRGB in [0, 1].

    Returns:
        (B, 3, H, W), L* in [0, 100], a* and b* roughly in [-110, 110].
    """
    linear = torch.where(images > 0.04045, ((images + 0.055) / 1.055) ** 2.4, images / 12.92)
    matrix = images.new_tensor(RGB_TO_XYZ) / images.new_tensor(WHITE)[:, None]
    xyz = torch.einsum("ij,bjhw->bihw", matrix, linear)
    root = torch.where(
        xyz > (6 / 29) ** 3, xyz.clamp(min=1e-12) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29
    )
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


class LabEmbedder(nn.Module):
    """The colour of each pixel as its embedding; clusters of it are Euclidean.

    Attributes:
        dim: Width of the embedding, 3.
        stride: Pixels of the input for each pixel of the embedding, 1.
        spherical: False, clusters of colours are Euclidean.
    """

    dim = 3
    stride = 1
    spherical = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.

        Returns:
            (B, 3, H, W), L*, a* and b*.
        """
        return rgb_to_lab((images * self.std + self.mean).clamp(0, 1))
