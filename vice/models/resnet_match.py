"""ResNet matching: whether tensors are a plain ResNet's weights, which, and else what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import torch
import torchvision
from torch import Tensor

from vice.model_specs import RESNETS
from vice.models.uninitialized import Uninitialized
from vice.models.weight_match import NO_TENSORS, Match, State, compare
from vice.models.weight_names import torchvision_resnet

#: What stands before these in a file is a prefix, whatever its last character.
MARKS = ("layer1.0.conv1.weight", "layer2.0.conv1.weight")
#: Half of a ResNet-18.
LEAST = 50
#: Blocks of each stage, and whether they are bottlenecks, to name.
_DEPTHS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
#: (depth, width and inputs of a group of the first 3x3 convolution) to timm's name.
_WIDER = {
    ("resnet50", (128, 4)): "resnext50_32x4d",
    ("resnet101", (128, 4)): "resnext101_32x4d",
    ("resnet101", (256, 8)): "resnext101_32x8d",
    ("resnet101", (256, 4)): "resnext101_64x4d",
    ("resnet101", (512, 16)): "resnext101_32x16d",
    ("resnet50", (128, 128)): "wide_resnet50_2",
    ("resnet101", (128, 128)): "wide_resnet101_2",
}
_OWN = "embed with it as MODULE:CALLABLE, a function that returns your module"


def match_resnet(state: State, name: str | None = None) -> Match | None:
    """What a ResNet makes of tensors under one prefix.

    Args:
        state: The tensors.
        name: Which ResNet it must be; None takes what its layers say.

    Returns:
        The weights under torchvision's names, or why they are none; None where there is nothing of
        a ResNet.
    """
    renamed = torchvision_resnet(state)
    if renamed is None:
        return None
    tensors, layout = renamed
    architecture = depth(tensors)
    if architecture is None:
        problem = f"{blocks(tensors)} blocks are none of {', '.join(RESNETS)}; {_OWN}"
        return Match(problem=problem, other=True)
    wanted = _wanted(architecture)
    unused = {key: value for key, value in tensors.items() if key not in wanted}
    match = compare(tensors, wanted, unused, layout=layout, name=architecture)
    if match.problem and (remedy := _remedy(tensors, architecture)):
        return Match(problem=remedy, share=match.share, other=True)
    if not match.problem and name not in (None, architecture):
        problem = f"it holds a {architecture}, not a {name}"
        return Match(problem=problem, share=match.share, other=True)
    return match


def depth(state: Mapping[str, Tensor]) -> str | None:
    """Which ResNet has these blocks, or None."""
    return _DEPTHS.get((blocks(state), "layer1.0.conv3.weight" in state))


def blocks(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Number of blocks of the four stages."""
    places = {match.groups() for key in state if (match := re.match(r"layer([1-4])\.(\d+)\.", key))}
    return tuple(sum(stage == str(k) for stage, _ in places) for k in range(1, 5))


def not_a_resnet(flat: State) -> str:
    """What to say of a file without a plain ResNet."""
    names = " ".join(flat)
    if not flat:
        return NO_TENSORS
    if re.search(r"patch_embed|blocks\.\d+\.attn|encoder\.layer\.\d+", names):
        return (
            "it holds a transformer, whose name the file does not say: give timm:NAME@FILE, for "
            "example timm:vit_small_patch16_224@FILE"
        )
    if re.search(r"conv_stem|stages\.\d+\.blocks|dwconv|blocks\.\d+\.\d+\.conv", names):
        return "it holds another convolutional network: give timm:NAME@FILE, with its name in timm"
    return (
        "no ResNet with torchvision's names of weights (layer1.0.conv1.weight) in it; give timm "
        "models as timm:NAME@FILE and anything else as MODULE:CALLABLE"
    )


def _remedy(state: State, architecture: str) -> str | None:
    """What to do with a ResNet that is not a plain one."""
    stem = state.get("conv1.weight")
    grouped = state.get("layer1.0.conv2.weight")
    if architecture != "resnet18" and grouped is not None and grouped.ndim == 4:
        width = tuple(grouped.shape[:2])
        if name := _WIDER.get((architecture, width)):  # type: ignore[arg-type]
            return f"it holds a {name}, not a {architecture}: give timm:{name}@FILE"
    if any(re.match(r"layer1\.0\.se\.", key) for key in state):
        return "its blocks have squeeze and excitation: give timm:NAME@FILE (timm:seresnet50@FILE)"
    if stem is None and any(re.match(r"(conv1\.\d|stem\.\d)", key) for key in state):
        return (
            f"its stem is three convolutions: give timm:{architecture}d@FILE if it is that, or "
            f"{_OWN}"
        )
    if stem is None or stem.ndim != 4:
        return None
    if stem.shape[1] != 3:
        return (
            f"its first convolution takes {stem.shape[1]} channels, and images have 3 here: make "
            f"the channels out of RGB in a module of your own and {_OWN}"
        )
    if tuple(stem.shape[2:]) != (7, 7):
        kernel = "x".join(map(str, stem.shape[2:]))
        return f"its first convolution is {kernel}, that of small images, not 7x7: {_OWN}"
    return None


@cache
def _wanted(name: str) -> dict[str, Tensor]:
    with torch.device("meta"), Uninitialized():
        state = getattr(torchvision.models, name)(weights=None).state_dict()
    return {key: value for key, value in state.items() if not key.startswith("fc.")}
