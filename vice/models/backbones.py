"""Backbones: images to feature maps at strides 4, 8, 16 and 32 (or dilated)."""

from __future__ import annotations

import urllib.error
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

from vice.errors import UserError

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


class ResNetFeatures(nn.Module):
    """The four residual stages of a torchvision ResNet as a feature pyramid.

    Args:
        name: One of ``RESNETS``.
        output_stride: Stride of the last stage, in pixels: 32, or 16 or 8 where the last one or
            two stages trade their stride for dilation (DeepLab).
        weights: ``None`` for random initialisation, ``"imagenet"`` for torchvision's default
            ImageNet weights.

    Raises:
        UserError: Unknown name, weights or output stride, or the weights cannot be had.
    """

    def __init__(
        self, name: str = "resnet18", output_stride: int = 32, weights: str | None = None
    ) -> None:
        super().__init__()
        if name not in RESNETS:
            raise UserError(f"backbone {name!r} is unknown; choose one of {', '.join(RESNETS)}")
        if output_stride not in (8, 16, 32):
            raise UserError(f"output_stride must be 8, 16 or 32, not {output_stride}")
        net = _torchvision_resnet(name, weights)
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.layer1, self.layer2 = net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4
        if output_stride == 8:
            _dilate(self.layer3, 2)
            _dilate(self.layer4, 4)
        elif output_stride == 16:
            _dilate(self.layer4, 2)
        widths = (64, 128, 256, 512) if name in RESNETS[:2] else (256, 512, 1024, 2048)
        self.channels: tuple[int, int, int, int] = widths
        self.output_stride = output_stride

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features of the four stages.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.

        Returns:
            Four maps (B, channels[i], ceil(H / s), ceil(W / s)), s = 4, 8, 16, 32 unless dilated.
        """
        c2 = self.layer1(self.stem(images))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return c2, c3, c4, self.layer4(c4)


def _torchvision_resnet(name: str, weights: str | None) -> nn.Module:
    builder: Callable[..., nn.Module] = getattr(torchvision.models, name)
    if weights is None:
        return builder(weights=None)
    if weights != "imagenet":
        raise UserError(f"backbone weights must be null or 'imagenet', not {weights!r}")
    try:
        return builder(weights="DEFAULT")
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"cannot fetch torchvision's ImageNet weights for {name} ({error}); copy the file "
            f"into {torch.hub.get_dir()}/checkpoints, or start from random weights with "
            "weights=null"
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
