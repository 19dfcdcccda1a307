"""The trunk of a model: which network of other libraries it is, with its weights in their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vice.errors import UserError
from vice.models.resnet import ResNetFeatures
from vice.models.timm_backbones import TimmBackbone, TimmPyramid, probe_side
from vice.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize

#: Torchvision's names of the stem for those of `ResNetFeatures`.
_STEM = {"stem.0.": "conv1.", "stem.1.": "bn1."}
_INSTEAD = "export to onnx or torchscript instead"


@dataclass(frozen=True)
class Trunk:
    """A network of another library.

    Attributes:
        call: The Python that makes it with random weights, as a user would write it.
        build: Does that.
        tensors: This model's weights under that network's names.
        maps: From that network and its input to the feature maps that this model's trunk gives.
        size: (B, H, W) of images that both take as they are.
        mean: What the network wants to be taken from RGB in [0, 1] first.
        deviation: What it wants that to be divided by.
    """

    call: str
    build: Callable[[], nn.Module]
    tensors: Mapping[str, Tensor]
    maps: Callable[[Any, Tensor], Sequence[Tensor]]
    size: tuple[int, int, int] = (2, 97, 131)
    mean: tuple[float, ...] = IMAGENET_MEAN
    deviation: tuple[float, ...] = IMAGENET_STD

    def normalized(self, images: Tensor) -> Tensor:
        """RGB in [0, 1], (B, 3, H, W), as the network wants it."""
        mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (self.mean, self.deviation))
        return (images - mean) / deviation


@dataclass(frozen=True)
class ResNet:
    """What a ResNet of another library has to be told.

    Attributes:
        name: ``resnet18`` to ``resnet152``.
        stages: How many of its four stages there are.
        output_stride: Of the last of all four, in pixels.
        padding: Of its convolutions, ``zeros`` or ``replicate``.
        tensors: Its weights under torchvision's names, which timm and MMSegmentation share.
    """

    name: str
    stages: int
    output_stride: int
    padding: str
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, embedder: nn.Module, features: ResNetFeatures) -> ResNet:
        """That of an embedder, which says in its ``config`` which ResNet it has."""
        conv: Any = features.stem[0]
        config: Any = embedder.config
        return cls(
            name=config["backbone"],
            stages=len(features.names),
            output_stride=features.output_stride,
            padding=conv.padding_mode,
            tensors={_renamed(name): value for name, value in features.state_dict().items()},
        )

    @property
    def dilated(self) -> bool:
        """Whether stages that are there have dilation in the place of their stride."""
        return self.output_stride < 2 ** (self.stages + 1)

    def require_plain_border(self, library: str) -> None:
        """Refuses a border other than zeros.

        Raises:
            UserError: It has one.
        """
        if self.padding != "zeros":
            raise UserError(
                f"{library}'s ResNets pad with zeros, and this one was trained with "
                f"padding={self.padding}: export to mmseg, onnx or torchscript instead"
            )

    def require_plain_blocks(self, library: str) -> None:
        """Refuses dilated basic blocks, of which others dilate other convolutions, or none.

        Raises:
            UserError: It has them.
        """
        if self.dilated and self.name in ("resnet18", "resnet34"):
            raise UserError(
                f"{library} has no {self.name} of output stride {self.output_stride} that dilates "
                f"both convolutions of a block: {_INSTEAD}"
            )


def torchvision_trunk(embedder: nn.Module) -> Trunk:
    """The trunk as a model of torchvision.

    Raises:
        UserError: Torchvision has none like it.
    """
    import torchvision

    module = trunk_module(embedder)
    if isinstance(module, TimmBackbone):
        raise UserError(f"{module.name} is a model of timm: export to timm, onnx or torchscript")
    net = ResNet.of(embedder, module)
    net.require_plain_border("torchvision")
    net.require_plain_blocks("torchvision")
    more: dict[str, Any] = {"weights": None}
    if net.dilated:
        dilate = [False, net.output_stride == 8, net.output_stride <= 16]
        more["replace_stride_with_dilation"] = dilate

    def maps(network: Any, given: Tensor) -> list[Tensor]:
        stem = (network.conv1, network.bn1, network.relu, network.maxpool)
        found = [nn.Sequential(*stem)(given)]
        for stage in range(1, net.stages + 1):
            found.append(network.get_submodule(f"layer{stage}")(found[-1]))
        return found[1:]

    function = getattr(torchvision.models, net.name)
    return Trunk(
        f"torchvision.models.{net.name}({_shown(more)})",
        lambda: function(**more),
        net.tensors,
        maps,
    )


def timm_trunk(embedder: nn.Module) -> Trunk:
    """The trunk as a model of timm.

    Raises:
        UserError: Timm is missing, or has none like it.
    """
    module = trunk_module(embedder)
    try:
        import timm
    except ImportError as error:
        raise UserError("--to timm needs timm: pip install timm") from error
    if isinstance(module, TimmBackbone):
        return _of_timm(module)
    net = ResNet.of(embedder, module)
    net.require_plain_border("timm")
    net.require_plain_blocks("timm")
    more = {"num_classes": 0} | ({"output_stride": net.output_stride} if net.dilated else {})
    return Trunk(
        f"timm.create_model({net.name!r}, {_shown(more)})",
        lambda: timm.create_model(net.name, **more),
        net.tensors,
        lambda network, given: _layers(network, given, list(range(1, net.stages + 1)), norm=False),
    )


def _of_timm(module: TimmBackbone) -> Trunk:
    """The model of timm that it is, under timm's own names again."""
    import timm

    pyramid = isinstance(module, TimmPyramid)
    indices: Any = module.indices if pyramid else 1
    options: dict[str, Any] = {"num_classes": 0}
    if max(module.patch) > 1:
        # Size: without it a transformer takes images of one size alone.
        options["dynamic_img_size"] = True
    side = probe_side(module.patch)
    return Trunk(
        f"timm.create_model({module.name!r}, {_shown(options)})",
        lambda: timm.create_model(module.name, **options),
        {_joined(name, module.net): value for name, value in module.net.state_dict().items()},
        lambda network, given: _layers(network, given, indices, norm=not pyramid),
        (2, side, 2 * side),
        *statistics(module),
    )


def statistics(module: TimmBackbone) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation that a model of timm was trained with."""
    said = module.net.pretrained_cfg
    return tuple(said.get("mean", IMAGENET_MEAN)), tuple(said.get("std", IMAGENET_STD))


def trunk_module(embedder: nn.Module) -> ResNetFeatures | TimmBackbone:
    """The trunk inside an embedder.

    Raises:
        UserError: It is of no other library.
    """
    inside = (embedder, getattr(embedder, "backbone", None), getattr(embedder, "features", None))
    for module in inside:
        if isinstance(module, ResNetFeatures | TimmBackbone):
            return module
    config = getattr(embedder, "config", None)
    name = config.get("backbone") if isinstance(config, dict) else None
    raise UserError(
        f"{name or type(embedder).__name__} is no ResNet and no model of timm, whose weights other "
        f"libraries can take: {_INSTEAD}"
    )


def own_maps(embedder: nn.Module, images: Tensor) -> Sequence[Tensor]:
    """What the trunk makes of RGB in [0, 1], (B, 3, H, W): its maps, the finest first."""
    found = trunk_module(embedder)(normalize(images))
    return (found,) if isinstance(found, Tensor) else found


def _layers(network: Any, given: Tensor, indices: Any, *, norm: bool) -> list[Tensor]:
    found: list[Tensor] = network.forward_intermediates(
        given, indices=indices, norm=norm, output_fmt="NCHW", intermediates_only=True
    )
    return found


def _joined(name: str, net: nn.Module) -> str:
    """A name of timm's, whose normalizations ViCE has parted from the activations inside them."""
    parts = name.split(".")
    for place in range(len(parts) - 2, 0, -1):
        child = net.get_submodule(".".join(parts[:place]))
        parted = isinstance(child, nn.Sequential) and len(child) == 3
        if parted and isinstance(child[0], nn.BatchNorm2d) and parts[place] == "0":
            return ".".join([*parts[:place], *parts[place + 1 :]])
    return name


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def _renamed(name: str) -> str:
    """A name of `ResNetFeatures` to torchvision's."""
    return re.sub(r"^stem\.[01]\.", lambda match: _STEM[match[0]], name)
