"""Options of the dense embedder."""

from __future__ import annotations

from dataclasses import dataclass

from vice.model_specs import AUTO, DECODERS
from vice.options import FLAG, LINE, NULL, PATH, either, one_of, option, whole

PADDINGS = ("zeros", "replicate")


@dataclass(frozen=True)
class EmbedderOptions:
    """Arguments of `vice.models.build_embedder`."""

    backbone: str = option(
        "resnet18",
        LINE,
        "a ResNet of torchvision, resnet18 to resnet152, timm:NAME, a convolutional network or "
        "plain ViT of timm, or net10a, the shallow network of IIC on colors and edges",
    )
    decoder: str = option(
        "fpn",
        one_of(*DECODERS, AUTO),
        "fpn (low resolution), deeplabv3plus (high resolution) or deeplabv3 (stride 8; both for "
        "torchvision's ResNets only), pup (progressive upsampling, for a ViT), projection (of the "
        "last map, at its stride, as STEGO has it), none (the last map "
        "as it is, of a ResNet of torchvision or net10a; dim is its width), or auto: pup for a "
        "ViT, none for net10a, fpn for all others",
    )
    dim: int = option(128, whole(1, 2**16), "width of the embedding, D")
    weights: str | None = option(
        None,
        either(one_of("imagenet"), NULL, PATH),
        "of the backbone: null (random), imagenet (torchvision's, or those that timm has), or a "
        "file, FILE#KEY where it holds several",
    )
    output_stride: int | None = option(
        None,
        either(whole(8, 32), NULL),
        "stride of the backbone's last stage: 32 for fpn, 8 (null) or 16 for deeplabv3plus and "
        "deeplabv3, 8, 16 or 32 (null) for projection",
    )
    align_corners: bool = option(False, FLAG, "of every bilinear upsampling inside the decoder")
    # Symmetry breaking: from random weights all pixels start in nearly one direction, and the loss
    # first has to break that symmetry; centering does it at once.
    centre: bool = option(
        False,
        FLAG,
        "whether to end in a batch normalization without scale and shift, which helps from random "
        "weights (not in the papers)",
    )
    # Border cue: from random weights, zeros tell where the border is, and regions can be matched
    # between views by their place instead of by what they show.
    padding: str = option(
        "zeros",
        one_of(*PADDINGS),
        "what convolutions see beyond the border: zeros, or the outermost pixels, which helps from "
        "random weights (not in the papers; backbones of timm keep their own)",
    )
    stages: int = option(
        4,
        whole(1, 4),
        "stages of the backbone that are used; below 4 only with fpn, projection or none",
    )
    frozen: bool | int = option(
        False,
        either(FLAG, whole(1, 4)),
        "whether the backbone stays as it is, in evaluation mode without gradient; or how many of "
        "its first stages do, with what lies before them (not of a ViT)",
    )
