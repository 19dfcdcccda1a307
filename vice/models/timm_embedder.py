"""Backbones of timm, convolutional and transformer, as dense embedders to be scored."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.errors import UserError
from vice.photometric import IMAGENET_MEAN, IMAGENET_STD


class TimmEmbedder(nn.Module):
    """The last feature map of a timm model.

    Images are scaled up to whole patches, so that the map covers the image exactly, and brought
    from ImageNet's mean and deviation to those that the model was trained with.

    Args:
        name: Name of the model in timm, for example ``"vit_small_patch14_dinov2"``.
        file: Its weights in a file that timm reads; None takes timm's download.
        weights: False for random weights, which come from the global generator.

    Attributes:
        dim: Width D of the embedding.
        stride: Pixels of the input for each pixel of the embedding.

    Raises:
        UserError: timm is missing or does not know the model, the model cannot give a feature
            map of an image of any size, or the weights cannot be had.
    """

    def __init__(self, name: str, file: str | None = None, *, weights: bool = True) -> None:
        super().__init__()
        self.net = _create(name, file, weights)
        patch = getattr(getattr(self.net, "patch_embed", None), "patch_size", 1)
        self.patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
        statistics = self.net.pretrained_cfg
        mean = torch.tensor(statistics.get("mean", IMAGENET_MEAN)).view(3, 1, 1)
        std = torch.tensor(statistics.get("std", IMAGENET_STD)).view(3, 1, 1)
        ours = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
        self.register_buffer("scale", ours[1] / std, persistent=False)
        self.register_buffer("shift", (ours[0] - mean) / std, persistent=False)
        side = 2 * math.lcm(32, self.patch[0])
        try:
            with torch.no_grad():
                probe = self.eval()(torch.zeros(1, 3, side, 2 * side))
        except Exception as error:
            raise UserError(
                f"timm:{name} gives no feature map of an image of {side} pixels ({error}); choose "
                "a plain ViT or a convolutional network"
            ) from error
        self.dim = int(probe.shape[1])
        self.stride = round(side / probe.shape[2])

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.

        Returns:
            (B, D, h, w), not normalised.
        """
        sizes = zip(images.shape[-2:], self.patch, strict=True)
        whole = [-(-size // patch) * patch for size, patch in sizes]
        if whole != list(images.shape[-2:]):
            images = F.interpolate(images, whole, mode="bilinear", align_corners=False)
        features: list[Tensor] = self.net.forward_intermediates(
            images * self.scale + self.shift,
            indices=1,
            norm=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        return features[-1]


def _create(name: str, file: str | None, weights: bool) -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError(f"timm:{name} needs timm: pip install timm") from error
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.partition('_')[0]}*")[:5])
        raise UserError(f"timm has no model {name!r}" + (f"; it has {near} ..." if near else ""))
    overlay = {"pretrained_cfg_overlay": {"file": file}} if file else {}
    # Transformers take images of any size only when told so; others do not know the option.
    for options in ({"dynamic_img_size": True}, {}):
        try:
            return timm.create_model(name, pretrained=weights, num_classes=0, **options, **overlay)
        except Exception as error:
            if options and isinstance(error, TypeError) and "dynamic_img_size" in str(error):
                continue
            source = f"timm:{name}@{file}" if file else f"timm:{name}"
            raise UserError(
                f"cannot load the weights of {source} ({_reason(error)}); name a file of its "
                f"weights with timm:{name}@FILE, or take random:timm:{name}"
            ) from error
    raise AssertionError("unreachable")


def _reason(error: Exception) -> str:
    # What PyTorch and timm add to this is how to run the code in the file.
    if "weights_only" in str(error):
        return "no file of PyTorch that holds nothing but tensors"
    return str(error) or type(error).__name__
