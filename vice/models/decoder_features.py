"""The features that an embedder projects its embedding from, as an embedder of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vice.errors import UserError


class DecoderFeatures(nn.Module):
    """The second dense output of an embedder.

    Args:
        embedder: Has a method ``decoder_features``, from (B, 3, H, W) normalised images to
            (B, F, h, w).

    Attributes:
        dim: Width F.
        embedder: The same.

    Raises:
        UserError: It has none.
    """

    def __init__(self, embedder: nn.Module) -> None:
        super().__init__()
        if not hasattr(embedder, "decoder_features"):
            raise UserError(
                f"features=decoder: {type(embedder).__name__} has no such output (a method "
                "decoder_features(images) that returns (B, F, h, w)); take features=embedding"
            )
        self.embedder = embedder
        with torch.no_grad():
            parameter = next(embedder.parameters(), torch.zeros(0))
            images = torch.zeros(1, 3, 64, 64, device=parameter.device)
            self.dim = int(embedder.eval().decoder_features(images).shape[1])
        self.config = {"features": "decoder", "of": getattr(embedder, "config", None)}
        self.weight_source = getattr(embedder, "weight_source", None)

    def forward(self, images: Tensor) -> Tensor:
        """Features of images, (B, F, h, w)."""
        features: Tensor = self.embedder.decoder_features(images)
        return features
