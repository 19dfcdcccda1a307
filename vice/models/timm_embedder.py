"""Backbones of timm, convolutional and transformer, as dense embedders to be scored."""

from __future__ import annotations

from torch import Tensor

from vice.models.timm_backbones import TimmBackbone, probe_side


class TimmEmbedder(TimmBackbone):
    """The last feature map of a timm model.

    Args:
        name: Name of the model in timm, for example ``"vit_small_patch14_dinov2"``.
        file: Its weights in a file; None takes timm's download.
        weights: False for random weights, which come from the global generator.

    Attributes:
        dim: Width D of the embedding.
        stride: Pixels of the input for each pixel of the embedding.

    Raises:
        UserError: timm is missing or does not know the model, the model cannot give a feature
            map of an image of any size, or the weights cannot be had.
    """

    def __init__(self, name: str, file: str | None = None, *, weights: bool = True) -> None:
        super().__init__(name, (file or "imagenet") if weights else None)
        (last,) = self.probe(name)
        self.dim = int(last[1])
        self.stride = round(probe_side(self.patch) / last[2])

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.

        Returns:
            (B, D, h, w), not normalised.
        """
        return self.intermediates(images, 1, self.patch, norm=True)[-1]
