"""Builds the dense embedder from a few plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vice.errors import OptionError, UserError
from vice.model_specs import AUTO, SHALLOW, TIMM, check_decoder, split_key
from vice.models.deeplabv3 import DeepLabV3
from vice.models.deeplabv3plus import DeepLabV3Plus
from vice.models.embedder import Embedder, LastMap
from vice.models.embedder_options import PADDINGS, EmbedderOptions
from vice.models.fpn import FPN
from vice.models.padding import set_padding
from vice.models.progressive_upsampling import ProgressiveUpsampling
from vice.models.projection import DROPPED, BackboneMap, Projection
from vice.models.resnet import ResNetFeatures
from vice.models.resnet_embedder import load_resnet
from vice.models.shallow import ShallowFeatures
from vice.models.timm_backbones import TimmTransformer, timm_features
from vice.models.weight_files import holds_weights
from vice.nearest import did_you_mean
from vice.paths import text_from_home

#: Beyond what any network gives a pixel, and less than what memory has no place for.
MOST_DIMENSIONS = 2**16


def build_embedder(
    backbone: str = EmbedderOptions.backbone,
    decoder: str = EmbedderOptions.decoder,
    dim: int = EmbedderOptions.dim,
    *,
    weights: str | None = EmbedderOptions.weights,
    output_stride: int | None = EmbedderOptions.output_stride,
    align_corners: bool = EmbedderOptions.align_corners,
    centre: bool = EmbedderOptions.centre,
    padding: str = EmbedderOptions.padding,
    stages: int = EmbedderOptions.stages,
    frozen: bool | int = EmbedderOptions.frozen,
    outputs: Mapping[str, int] | None = None,
) -> Embedder:
    """Builds an embedder.

    `vice.models.embedder_options.EmbedderOptions` says of each argument what it is and what it
    may be. Neither ``weights`` nor ``frozen`` is a part of the architecture, so a checkpoint does
    not hold them. ``outputs`` are further dense outputs, by name with their channels, 0 for the
    backbone's last map itself; the method of a training says which there are.

    Returns:
        The embedder in training mode.

    Raises:
        UserError: An unknown name, a number of dimensions that cannot be, or a stride that the
            decoder cannot work with.
    """
    check_decoder(decoder)
    weights = text_from_home(weights) if isinstance(weights, str) else weights
    if not 1 <= dim <= MOST_DIMENSIONS:
        raise UserError(f"the embedding has 1 to {MOST_DIMENSIONS:,} dimensions, not {dim}")
    if padding not in PADDINGS:
        near = did_you_mean(str(padding), PADDINGS, f"choose one of {', '.join(PADDINGS)}")
        raise UserError(f"padding {padding!r} is unknown{near}")
    of_timm = isinstance(backbone, str) and backbone.startswith(TIMM)
    parts: _Parts
    if of_timm:
        parts = _timm_parts(backbone, decoder, output_stride, weights, stages)
    elif backbone == SHALLOW:
        parts = _shallow_parts(decoder, output_stride, weights, stages, padding)
    else:
        parts = _resnet_parts(backbone, decoder, output_stride, weights, stages)
    features, decoder, stride = parts
    config: dict[str, Any] = {
        "backbone": backbone,
        "decoder": decoder,
        "dim": dim,
        "output_stride": stride,
        "align_corners": align_corners,
        "centre": centre,
        "padding": padding,
        "stages": stages,
    }
    if outputs:
        config["outputs"] = _checked(outputs)
    head = _decoder(features, decoder, dim, stride, align_corners)
    more = {
        name: _output(features, head, channels, align_corners)
        for name, channels in config.get("outputs", {}).items()
    }
    embedder = Embedder(
        features, head, dim=dim, config=config, centre=centre, frozen=frozen, outputs=more
    )
    if padding != "zeros":
        for module in (embedder.decoder if of_timm else embedder).modules():
            if isinstance(module, nn.Conv2d):
                set_padding(module, padding)
    return embedder


_Parts = tuple[Any, str, int | None]


def _resnet_parts(
    backbone: str, decoder: str, output_stride: int | None, weights: str | None, stages: int
) -> _Parts:
    """Backbone, name of the decoder, and output stride, of a torchvision ResNet."""
    decoder = "fpn" if decoder == AUTO else decoder
    if decoder == "pup":
        raise UserError(f"pup is a decoder of ViTs; use fpn or deeplabv3plus with {backbone}")
    if stages != 4 and decoder not in ("fpn", "projection", "none"):
        raise UserError(f"{decoder} needs all 4 stages of the backbone, not {stages}")
    dilated = decoder in ("deeplabv3plus", "deeplabv3")
    stride = output_stride or (8 if dilated else FPN.backbone_stride)
    if decoder not in ("projection", "none") and (stride == 32) != (decoder == "fpn"):
        raise UserError(
            f"output_stride {stride} does not go with {decoder}: use 32 with fpn, 8 or 16 with "
            "deeplabv3plus and deeplabv3"
        )
    file = weights if weights is not None and holds_weights(split_key(weights)[0]) else None
    features = ResNetFeatures(backbone, stride, None if file else weights, stages)
    if file:
        loaded = load_resnet(file, backbone)
        state = loaded.features.state_dict()
        features.load_state_dict({name: state[name] for name in features.state_dict()})
        features.weight_source = loaded.weight_source
    return features, decoder, stride


def _shallow_parts(
    decoder: str, output_stride: int | None, weights: str | None, stages: int, padding: str
) -> _Parts:
    """The same of IIC's shallow network, which has one map."""
    if decoder not in ("none", AUTO):
        raise OptionError(
            "{wrong} does not go with {backbone}, which has one map: use none, which "
            "{build_embedder.decoder=auto} takes by itself",
            wrong=decoder,
            backbone=SHALLOW,
        )
    if (output_stride, stages, weights) != (None, 4, None):
        raise UserError(
            f"{SHALLOW} is one network, without weights to start from: leave output_stride null, "
            "stages 4 and weights null"
        )
    return ShallowFeatures(padding), "none", None


def _timm_parts(
    backbone: str, decoder: str, output_stride: int | None, weights: str | None, stages: int
) -> _Parts:
    """The same of a model of timm, whose strides are what they are."""
    features = timm_features(backbone.removeprefix(TIMM), weights, stages)
    fitting = "pup" if isinstance(features, TimmTransformer) else "fpn"
    fitting = decoder if decoder == "projection" else fitting
    if decoder not in (fitting, AUTO):
        raise OptionError(
            "{wrong} does not go with {backbone}: use {right}, which {build_embedder.decoder=auto} "
            "takes by itself",
            wrong=decoder,
            backbone=backbone,
            right=fitting,
        )
    stride = FPN.backbone_stride if fitting == "fpn" else None
    if output_stride not in (None, stride):
        raise UserError(f"output_stride {output_stride} cannot be had from {backbone}: use null")
    return features, fitting, stride


def _decoder(
    features: Any, name: str, dim: int, stride: int | None, align_corners: bool
) -> nn.Module:
    if name == "none":
        if dim != features.channels[-1]:
            raise UserError(
                f"without a decoder the embedding is as wide as the last map: dim must be "
                f"{features.channels[-1]}, not {dim}"
            )
        return LastMap(features.last_stride)
    if name == "projection":
        return Projection(features.channels, dim, stride=features.last_stride)
    if name == "fpn":
        return FPN(features.channels, dim, align_corners=align_corners)
    if name == "pup":
        patch = max(features.patch)
        return ProgressiveUpsampling(
            features.channels, dim, patch=patch, align_corners=align_corners
        )
    assert stride is not None
    if name == "deeplabv3":
        return DeepLabV3(features.channels, dim, output_stride=stride)
    return DeepLabV3Plus(features.channels, dim, output_stride=stride, align_corners=align_corners)


def _checked(outputs: Any) -> dict[str, int]:
    """Names and channels of further outputs, which may come from a file."""
    fits = isinstance(outputs, Mapping) and all(
        isinstance(name, str) and name.isidentifier() and type(channels) is int and channels >= 0
        for name, channels in outputs.items()
    )
    if not fits:
        raise UserError(f"outputs {outputs!r} are no names with numbers of channels")
    return dict(outputs)


def _output(features: Any, decoder: nn.Module, channels: int, align_corners: bool) -> nn.Module:
    """A linear output without bias, of what a decoder projects or of the backbone's maps.

    Without channels of its own it is the backbone's last map, with what a projection drops of it.
    """
    if not channels:
        return BackboneMap(DROPPED if isinstance(decoder, Projection) else 0.0)
    projection = getattr(decoder, "project", None)
    if hasattr(decoder, "fused") and isinstance(projection, nn.Conv2d):
        return nn.Conv2d(projection.in_channels, channels, kernel_size=1, bias=False)
    return FPN(features.channels, channels, align_corners=align_corners, bias=False)


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
