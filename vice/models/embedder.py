"""The dense embedder: backbone plus decoder, built from a few plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.errors import OptionError, UserError
from vice.models.deeplabv3 import DeepLabV3
from vice.models.deeplabv3plus import DeepLabV3Plus
from vice.models.embedder_options import AUTO, DECODERS, PADDINGS, EmbedderOptions
from vice.models.fpn import FPN
from vice.models.progressive_upsampling import ProgressiveUpsampling
from vice.models.resnet import ResNetFeatures
from vice.models.resnet_embedder import load_resnet
from vice.models.shallow import NAME as SHALLOW
from vice.models.shallow import ShallowFeatures
from vice.models.timm_backbones import PREFIX, TimmTransformer, timm_features
from vice.models.weight_files import holds_weights, split_key

#: The output by which a model tells its foreground.
SALIENCY = "saliency"


class LastMap(nn.Module):
    """No decoder: the last map of the backbone, as it is.

    Args:
        stride: Of the map.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(B, C, h, w), the last of several maps."""
        return features[-1]


class Embedder(nn.Module):
    """f_theta of the papers: images to a dense embedding, at stride 4 but for `LastMap`.

    Args:
        backbone: Images to feature maps.
        decoder: Feature maps to a dense embedding.
        dim: Width D of the embedding.
        config: See below.
        centre: Whether to end in a batch normalisation without scale and shift.
        frozen: Keeps the backbone as it is: no gradient, and evaluation mode (no batch statistics,
            no dropout) whatever mode the embedder is in. A number keeps its stem and so many of
            its stages.
        outputs: Modules that make further dense outputs of what the decoder projects the embedding
            from, or of the backbone's maps where it projects nothing last.

    Attributes:
        dim: Width D of the embedding.
        stride: Pixels of the input for each pixel of the embedding: 4 but for deeplabv3, which has
            8, and `LastMap`, which has about the backbone's.
        outputs: The further outputs by name.
        config: The arguments of `build_embedder` that build the same architecture.
        provenance: What a result must say of how it was trained; empty but for some methods.
    """

    def __init__(
        self,
        backbone: nn.Module,
        decoder: nn.Module,
        *,
        dim: int,
        config: dict[str, Any],
        centre: bool = False,
        frozen: bool | int = False,
        outputs: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        # Not there without any: names in states stay what they were.
        self.outputs = nn.ModuleDict(outputs or {})
        self.centre = nn.BatchNorm2d(dim, affine=False) if centre else nn.Identity()
        self.dim = dim
        self.stride = int(getattr(decoder, "stride", 4))
        self.config = config
        self.provenance: dict[str, Any] = {}
        self.frozen = frozen
        for part in _frozen_parts(backbone, frozen):
            part.eval().requires_grad_(False)

    @property
    def weight_source(self) -> dict[str, Any] | None:
        """Where in a file the backbone's weights were; None without a file."""
        return getattr(self.backbone, "weight_source", None)

    def train(self, mode: bool = True) -> Embedder:
        """Sets the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for part in _frozen_parts(self.backbone, self.frozen):
            part.eval()
        return self

    def forward(self, images: Tensor, *, outputs: bool = False) -> Tensor:
        """Embeds images.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.
            outputs: Whether the further outputs follow along the channels, in their order.

        Returns:
            (B, D, ceil(H / stride), ceil(W / stride)), not normalised; of `LastMap` the size that
            the backbone's last map has.
        """
        stages = self._stages(images)
        if not (outputs and self.outputs):
            return self.centre(self._at_stride(self.decoder(stages), images))
        fused = self._fused(stages)
        dense = self.decoder(stages) if fused is stages else self.decoder.project(fused)
        maps = [self.centre(self._at_stride(dense, images))]
        maps += [self._at_stride(module(fused), images) for module in self.outputs.values()]
        return torch.cat(maps, dim=1)

    def output(self, name: str, images: Tensor) -> Tensor:
        """One of the further outputs.

        Args:
            name: Its name.
            images: As in `forward`.

        Returns:
            (B, channels, ceil(H / stride), ceil(W / stride)), raw.
        """
        return self._at_stride(self.outputs[name](self._fused(self._stages(images))), images)

    @property
    def foreground(self) -> Callable[[Tensor], Tensor]:
        """From images, as in `forward`, to the logits (B, 1, h, w) of their foreground.

        Raises:
            AttributeError: There is no output ``saliency``.
        """
        if SALIENCY not in self.outputs:
            raise AttributeError(f"an embedder without the output {SALIENCY}")
        return partial(self.output, SALIENCY)

    def decoder_features(self, images: Tensor) -> Tensor:
        """What the decoder projects the embedding from.

        Args:
            images: As in `forward`.

        Returns:
            (B, F, ceil(H / stride), ceil(W / stride)).

        Raises:
            UserError: A decoder whose last layer is no projection.
        """
        fused = getattr(self.decoder, "fused", None)
        if fused is None:
            raise UserError(
                f"features=decoder: {type(self.decoder).__name__} has no features before a last "
                "projection; take features=embedding"
            )
        return self._at_stride(fused(self._stages(images)), images)

    def _stages(self, images: Tensor) -> Sequence[Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.frozen is not True):
            return self.backbone(images)

    def _fused(self, stages: Sequence[Tensor]) -> Any:
        """What further outputs are made of: the decoder's features, or the backbone's maps."""
        return self.decoder.fused(stages) if hasattr(self.decoder, "fused") else stages

    def _at_stride(self, dense: Tensor, images: Tensor) -> Tensor:
        if isinstance(self.decoder, LastMap):
            return dense
        # Patch size: backbones that scale images up to whole ones cover other numbers of pixels.
        size = tuple(-(-length // self.stride) for length in images.shape[-2:])
        if dense.shape[-2:] != size:
            dense = F.interpolate(dense, size, mode="bilinear", align_corners=False)
        return dense


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
    not hold them. ``outputs`` are further dense outputs, by name with their channels; the method of
    a training says which there are.

    Returns:
        The embedder in training mode.

    Raises:
        UserError: An unknown name, or a stride that the decoder cannot work with.
    """
    if decoder not in (*DECODERS, AUTO):
        raise UserError(f"decoder {decoder!r} is unknown; choose one of {', '.join(DECODERS)}")
    if dim < 1:
        raise UserError(f"the embedding needs at least one dimension, not {dim}")
    if padding not in PADDINGS:
        raise UserError(f"padding {padding!r} is unknown; choose one of {', '.join(PADDINGS)}")
    of_timm = isinstance(backbone, str) and backbone.startswith(PREFIX)
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
                _set_padding(module, padding)
    return embedder


_Parts = tuple[Any, str, int | None]


def _resnet_parts(
    backbone: str, decoder: str, output_stride: int | None, weights: str | None, stages: int
) -> _Parts:
    """Backbone, name of the decoder, and output stride, of a torchvision ResNet."""
    decoder = "fpn" if decoder == AUTO else decoder
    if decoder == "pup":
        raise UserError(f"pup is a decoder of ViTs; use fpn or deeplabv3plus with {backbone}")
    if stages != 4 and decoder not in ("fpn", "none"):
        raise UserError(f"{decoder} needs all 4 stages of the backbone, not {stages}")
    dilated = decoder in ("deeplabv3plus", "deeplabv3")
    stride = output_stride or (8 if dilated else FPN.backbone_stride)
    if decoder != "none" and (stride == 32) != (decoder == "fpn"):
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
    features = timm_features(backbone.removeprefix(PREFIX), weights, stages)
    fitting = "pup" if isinstance(features, TimmTransformer) else "fpn"
    if decoder not in (fitting, AUTO):
        raise OptionError(
            "{wrong} does not go with {backbone}: use {right}, which {build_embedder.decoder=auto} "
            "takes by itself",
            wrong=decoder,
            backbone=backbone,
            right=fitting,
        )
    stride = None if fitting == "pup" else FPN.backbone_stride
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
        isinstance(name, str) and name.isidentifier() and type(channels) is int and channels > 0
        for name, channels in outputs.items()
    )
    if not fits:
        raise UserError(f"outputs {outputs!r} are no names with numbers of channels")
    return dict(outputs)


def _output(features: Any, decoder: nn.Module, channels: int, align_corners: bool) -> nn.Module:
    """A linear output without bias, of what a decoder projects or of the backbone's maps."""
    projection = getattr(decoder, "project", None)
    if hasattr(decoder, "fused") and isinstance(projection, nn.Conv2d):
        return nn.Conv2d(projection.in_channels, channels, kernel_size=1, bias=False)
    return FPN(features.channels, channels, align_corners=align_corners, bias=False)


def _frozen_parts(backbone: nn.Module, frozen: bool | int) -> list[nn.Module]:
    """The modules that stay as they are."""
    if isinstance(frozen, bool):
        return [backbone] if frozen else []
    stages = backbone.first_stages(frozen) if hasattr(backbone, "first_stages") else None
    if stages is None:
        raise UserError(
            f"frozen={frozen}: only torchvision's ResNets have stages to freeze by number; take "
            "frozen=true, or false"
        )
    return list(stages)


def _set_padding(conv: nn.Conv2d, mode: str) -> None:
    conv.padding_mode = mode
    # Padding: the constructor derives this from it, and dilation may have changed it since.
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
