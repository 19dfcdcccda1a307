"""Backbones: images to feature maps at strides 4, 8, 16 and 32 (or dilated)."""

from __future__ import annotations

import urllib.error
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from vice.errors import OptionError, UserError
from vice.model_specs import RESNETS, check_backbone
from vice.models.downloads import impatient_sockets
from vice.models.torchvision_weights import default_weights


class ResNetFeatures(nn.Module):
    """The residual stages of a torchvision ResNet as a feature pyramid.

    Args:
        name: One of ``RESNETS``.
        output_stride: Stride of the last stage, in pixels: 32, or 16 or 8 where the last one or
            two stages trade their stride for dilation (DeepLab).
        weights: ``None`` for random initialisation, ``"imagenet"`` for torchvision's default
            ImageNet weights.
        stages: How many of the four stages to build, finest first. Fewer see a smaller
            neighbourhood: 43, 99, 211 and 435 pixels wide with ResNet-18.

    Raises:
        UserError: Unknown name, weights, stages or output stride, or the weights cannot be had.
    """

    def __init__(
        self,
        name: str = "resnet18",
        output_stride: int = 32,
        weights: str | None = None,
        stages: int = 4,
    ) -> None:
        super().__init__()
        check_backbone(name)
        if output_stride not in (8, 16, 32):
            raise UserError(f"output_stride must be 8, 16 or 32, not {output_stride}")
        if stages not in (1, 2, 3, 4):
            raise UserError(f"stages must be 1 to 4, not {stages}")
        net = _torchvision_resnet(name, weights)
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        if output_stride == 8:
            _dilate(net.layer3, 2)
            _dilate(net.layer4, 4)
        elif output_stride == 16:
            _dilate(net.layer4, 2)
        self.names = [f"layer{stage}" for stage in range(1, stages + 1)]
        for stage in self.names:
            self.add_module(stage, getattr(net, stage))
        widths = (64, 128, 256, 512) if name in RESNETS[:2] else (256, 512, 1024, 2048)
        self.channels: tuple[int, ...] = widths[:stages]
        self.output_stride = output_stride
        self.last_stride = min(4 * 2 ** (stages - 1), output_stride)
        self.weight_source: dict[str, Any] | None = None

    def first_stages(self, count: int) -> list[nn.Module]:
        """The stem, and so many stages after it."""
        return [self.stem, *(self.get_submodule(name) for name in self.names[:count])]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of the stages.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.

        Returns:
            A map (B, channels[i], ceil(H / s), ceil(W / s)) a stage, s = 4, 8, 16, 32 unless
            dilated.
        """
        feature = self.stem(images)
        features = []
        for name in self.names:
            feature = self.get_submodule(name)(feature)
            features.append(feature)
        return tuple(features)


def _torchvision_resnet(name: str, weights: str | None) -> nn.Module:
    builder: Callable[..., nn.Module] = getattr(torchvision.models, name)
    if weights is None:
        return builder(weights=None)
    if weights != "imagenet":
        raise UserError(
            f"backbone weights must be null, 'imagenet' or a file that exists (FILE#KEY), not "
            f"{weights!r}"
        )
    net = builder(weights=None)
    try:
        with impatient_sockets():
            net.load_state_dict(default_weights(name))
        return net
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise OptionError(
            "cannot fetch torchvision's ImageNet weights for {name} ({reason}); name a file "
            "(torchvision:{name}@FILE to score it, {weights}=FILE to train), copy theirs into "
            "{folder}/checkpoints, or take random weights (random:{name}-fpn-128 to score them, "
            "{weights}=null to train)",
            name=name,
            reason=error,
            folder=torch.hub.get_dir(),
        ) from error


def _dilate(stage: nn.Module, rate: int) -> None:
    """Replaces the stride of a stage by dilation, keeping its field of view and weights.

    The first block keeps the previous stage's rate (half of ``rate``), as in DeepLab; torchvision
    offers this for bottleneck blocks only, and ResNet-18 and -34 need it too.
    """
    for position, block in enumerate(stage.children()):
        for module in block.modules():
            if not isinstance(module, nn.Conv2d):
                continue
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                step = max(rate // 2, 1) if position == 0 else rate
                module.dilation = module.padding = (step, step)
