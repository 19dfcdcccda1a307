"""The dense embedder: backbone plus decoder, built from a few plain values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vice.errors import UserError
from vice.models.backbones import ResNetFeatures
from vice.models.deeplabv3plus import DeepLabV3Plus
from vice.models.fpn import FPN

DECODERS = ("fpn", "deeplabv3plus")
PADDINGS = ("zeros", "replicate")


class Embedder(nn.Module):
    """f_theta of the papers: images to a dense embedding at stride 4.

    Attributes:
        dim: Width D of the embedding.
        stride: Pixels of the input for each pixel of the embedding.
        config: The arguments of `build_embedder` that build the same architecture.
    """

    def __init__(
        self,
        backbone: nn.Module,
        decoder: nn.Module,
        *,
        dim: int,
        config: dict[str, Any],
        centre: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.centre = nn.BatchNorm2d(dim, affine=False) if centre else nn.Identity()
        self.dim = dim
        self.stride = 4
        self.config = config

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.

        Returns:
            (B, D, ceil(H / 4), ceil(W / 4)), not normalised.
        """
        return self.centre(self.decoder(self.backbone(images)))


def build_embedder(
    backbone: str = "resnet18",
    decoder: str = "fpn",
    dim: int = 128,
    *,
    weights: str | None = None,
    output_stride: int | None = None,
    align_corners: bool = False,
    centre: bool = False,
    padding: str = "zeros",
    stages: int = 4,
) -> Embedder:
    """Builds an embedder.

    Args:
        backbone: A torchvision ResNet, ``resnet18`` to ``resnet152``.
        decoder: ``"fpn"`` (low resolution) or ``"deeplabv3plus"`` (high resolution).
        dim: Width D of the embedding.
        weights: ``None`` (random) or ``"imagenet"`` for the backbone.
        output_stride: Stride of the backbone's last stage; 32 for FPN, 8 (default) or 16 for
            DeepLabV3+.
        align_corners: Passed to every bilinear upsampling inside the decoder.
        centre: Ends in a batch normalisation without scale and shift. From random weights all
            pixels start in nearly the same direction, and swapped prediction first has to break
            that symmetry; centring does it at once. Not in the papers, which start from
            ImageNet.
        padding: What convolutions see beyond the border, ``"zeros"`` or ``"replicate"`` (the
            outermost pixels). From random weights, zeros tell the network where the border is,
            and regions can be matched between views by their place instead of by what they
            show. Not in the papers.
        stages: How many of the four backbone stages to use; below 4 only with ``"fpn"``.

    Returns:
        The embedder in training mode.

    Raises:
        UserError: An unknown name, or a stride that the decoder cannot work with.
    """
    if decoder not in DECODERS:
        raise UserError(f"decoder {decoder!r} is unknown; choose one of {', '.join(DECODERS)}")
    if dim < 1:
        raise UserError(f"the embedding needs at least one dimension, not {dim}")
    if padding not in PADDINGS:
        raise UserError(f"padding {padding!r} is unknown; choose one of {', '.join(PADDINGS)}")
    if stages != 4 and decoder != "fpn":
        raise UserError(f"{decoder} needs all 4 stages of the backbone, not {stages}")
    stride = output_stride or (FPN.backbone_stride if decoder == "fpn" else 8)
    if (stride == 32) != (decoder == "fpn"):
        raise UserError(
            f"output_stride {stride} does not go with {decoder}: use 32 with fpn, 8 or 16 with "
            "deeplabv3plus"
        )
    features = ResNetFeatures(backbone, stride, weights, stages)
    head: nn.Module
    if decoder == "fpn":
        head = FPN(features.channels, dim, align_corners=align_corners)
    else:
        head = DeepLabV3Plus(
            features.channels, dim, output_stride=stride, align_corners=align_corners
        )
    config = {
        "backbone": backbone,
        "decoder": decoder,
        "dim": dim,
        "output_stride": stride,
        "align_corners": align_corners,
        "centre": centre,
        "padding": padding,
        "stages": stages,
    }
    embedder = Embedder(features, head, dim=dim, config=config, centre=centre)
    if padding != "zeros":
        for module in embedder.modules():
            if isinstance(module, nn.Conv2d):
                _set_padding(module, padding)
    return embedder


def _set_padding(conv: nn.Conv2d, mode: str) -> None:
    conv.padding_mode = mode
    # The constructor derives this from the padding, which dilation may have changed since.
    rows, columns = conv.padding
    conv._reversed_padding_repeated_twice = [columns, columns, rows, rows]


def seeded_embedder(seed: int, **config: Any) -> Embedder:
    """`build_embedder` with random weights that depend on the seed alone.

    Args:
        seed: Seed of the initialisation; the global generator is left untouched.
        **config: Arguments of `build_embedder`.

    Returns:
        The embedder in training mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_embedder(**config)
