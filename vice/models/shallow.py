"""The shallow network of IIC's authors, from an image's colors and edges to one map."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.errors import UserError
from vice.model_specs import SHALLOW
from vice.normalize import denormalize

#: Grey of red, green and blue (ITU-R 601-2).
_GREY = (0.299, 0.587, 0.114)
_SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))
#: Width and dilation of each convolution; None halves the map.
_LAYERS = ((64, 1), (128, 1), None, (256, 1), (256, 1), (512, 2), (512, 2))
#: Side of the least image: the dilated convolutions take four pixels off each side of the half map.
_LEAST = 10


class ColorsAndEdges(nn.Module):
    """Red, green and blue from 0 to 1, and Sobel's two derivatives of their grey.

    Args:
        padding: What the derivatives see beyond the border, ``"zeros"`` or ``"replicate"``.
    """

    weight: Tensor

    def __init__(self, padding: str = "zeros") -> None:
        super().__init__()
        self.mode = "constant" if padding == "zeros" else padding
        across = torch.tensor(_SOBEL)
        # Derivative down the rows: from the row above to the one below.
        weight = torch.stack([across, across.T])[:, None]
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalized with ImageNet's mean and deviation to (B, 5, H, W)."""
        colors = denormalize(images)
        red, green, blue = colors.split(1, dim=1)
        grey = _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
        edges = F.conv2d(F.pad(grey, (1, 1, 1, 1), self.mode), self.weight)
        return torch.cat([colors, edges], 1)


class ShallowFeatures(nn.Module):
    """Six convolutions with batch normalization, halved once; one map of 512 channels.

    As in the authors' code the last two, of dilation 2 with a border of 1, take two cells off each
    side of the map, and one is put around it again: zeros there, before a classifier without bias,
    are even probabilities.

    Args:
        padding: ``"zeros"``, or ``"replicate"`` for the outermost values, here and in all
            convolutions.

    Raises:
        UserError: Images below 10 pixels, in `forward`.

    Source: Ji et al. (2019).
    """

    channels = (512,)
    last_stride = 2

    def __init__(self, padding: str = "zeros") -> None:
        super().__init__()
        self.mode = "constant" if padding == "zeros" else padding
        self.input = ColorsAndEdges(padding)
        layers: list[nn.Module] = []
        width = 5
        for layer in _LAYERS:
            if layer is None:
                layers.append(nn.MaxPool2d(2))
                continue
            conv = nn.Conv2d(width, layer[0], 3, padding=1, dilation=layer[1], bias=False)
            nn.init.kaiming_normal_(conv.weight)
            layers += [conv, nn.BatchNorm2d(layer[0]), nn.ReLU(inplace=True)]
            width = layer[0]
        self.layers = nn.Sequential(*layers)
        self.weight_source: dict[str, Any] | None = None

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Features.

        Args:
            images: (B, 3, H, W) float, normalized with ImageNet's mean and deviation.

        Returns:
            One map (B, 512, H // 2 - 2, W // 2 - 2).
        """
        if min(images.shape[2:]) < _LEAST:
            height, width = images.shape[2:]
            raise UserError(
                f"an image of {width}x{height} pixels is too small for {SHALLOW}, which needs "
                f"{_LEAST} on each side"
            )
        return (F.pad(self.layers(self.input(images)), (1, 1, 1, 1), self.mode),)
