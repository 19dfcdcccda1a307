"""Projection of a backbone's last map: a linear branch plus one with a hidden layer (STEGO)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

#: Share of the channels that are dropped in training (Hamilton et al. 2022, their code).
DROPPED = 0.1


class Projection(nn.Module):
    """``W1 drop(x) + W3 relu(W2 drop(x))`` of each cell, at the stride of the map.

    In training each branch drops whole channels, drawn for itself.

    Args:
        channels: Widths of the backbone's maps, of which the last is taken.
        dim: Width D of the embedding.
        stride: Of the last map, in pixels.
    """

    def __init__(self, channels: Sequence[int], dim: int, *, stride: int) -> None:
        super().__init__()
        width = channels[-1]
        self.stride = stride
        self.drop = nn.Dropout2d(DROPPED)
        self.linear = nn.Conv2d(width, dim, kernel_size=1)
        self.hidden = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(width, dim, kernel_size=1),
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(B, C, h, w), the last of several maps, to (B, D, h, w)."""
        linear: Tensor = self.linear(self.drop(features[-1]))
        return linear + self.hidden(self.drop(features[-1]))


class BackboneMap(nn.Module):
    """A further output: the last map of the backbone itself.

    Args:
        dropped: Share of its channels that are dropped in training.
    """

    def __init__(self, dropped: float) -> None:
        super().__init__()
        self.drop = nn.Dropout2d(dropped)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(B, C, h, w), the last of several maps, to the same."""
        dropped: Tensor = self.drop(features[-1])
        return dropped
