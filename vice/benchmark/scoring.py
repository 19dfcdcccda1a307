"""The nearest of many centroids against a linear layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vice.benchmark.timing import Row, time_in_turn
from vice.centroids import Centroids, argmax_upsampled


@torch.no_grad()
def nearest(device: str, *, small: bool) -> list[Row]:
    """256 clusters of an image of Cityscapes' size against a linear layer of 256 classes."""
    height, width = (256, 512) if small else (1024, 2048)
    embedding = torch.randn(1, 128, height // 4, width // 4, device=device)
    centroids = Centroids(F.normalize(torch.randn(256, 128)), spherical=True)
    layer = torch.nn.Conv2d(128, 256, 1, bias=False).to(device)

    def linear() -> torch.Tensor:
        return argmax_upsampled(layer(embedding), (height, width))

    def whole() -> torch.Tensor:
        scores = F.interpolate(layer(embedding), (height, width), mode="bilinear")
        return scores.argmax(1)

    def clusters() -> torch.Tensor:
        return argmax_upsampled(centroids.scores(embedding), (height, width))

    calls = {"linear layer": linear, "256 clusters": clusters, "linear, all at once": whole}
    seconds = time_in_turn(calls, device=device)
    size = f"{height} x {width}"
    return [
        Row(name, taken, "linear layer", taken / seconds["linear layer"], size)
        for name, taken in seconds.items()
    ]
