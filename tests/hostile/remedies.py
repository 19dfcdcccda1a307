"""Networks that cannot be had as they were asked for: each refusal names what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.helpers import weight_layouts as layouts
from tests.hostile.case import Action, Family

Rng = np.random.Generator
GROUP = "remedies"
SHARE = 0.03
_NAMES = ("vit_small_patch16_224", "convnext_tiny", "resnet50", "tf_efficientnet_lite0",
          "vit_small_patch14_dinov2", "mobilenetv3_small_050")  # fmt: skip


def _refused(spec: str, *names: str) -> Action:
    from vice.models.load import load_extractor

    return Action(run=lambda: load_extractor(spec), names=names)


@cache
def _shapes(library: str, name: str) -> dict[str, Any]:
    import timm
    import torchvision

    with torch.device("meta"):
        make: Any = timm.create_model if library == "timm" else torchvision.models.get_model
        return dict((make(name) if library == "timm" else make(name, weights=None)).state_dict())


def _small(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The names and shapes of a large network, in little memory."""
    return {key: torch.ones((), dtype=torch.float16).expand(v.shape) for key, v in state.items()}


def _typo(folder: Path, rng: Rng) -> Action:
    name = _NAMES[int(rng.integers(len(_NAMES)))]
    place = int(rng.integers(1, len(name)))
    letter = "abcxyz"[rng.integers(6)]
    slips = (
        name[:place] + name[place + 1 :],
        name[:place] + letter + name[place:],
        name[: place - 1] + name[place : place + 1] + name[place - 1] + name[place + 1 :],
        name.upper(),
        name.replace("_", "-"),
    )
    slip = slips[int(rng.integers(len(slips)))]
    import timm

    if timm.is_model(slip):
        slip = name + letter * 2
    return _refused(("timm:", "random:timm:")[rng.integers(2)] + slip, "did you mean")


def _tag(folder: Path, rng: Rng) -> Action:
    name, tag = (("vit_small_patch14_dinov2", "lvd142m"), ("vit_small_patch16_224", "dino"))[
        rng.integers(2)
    ]
    place = int(rng.integers(1, len(tag)))
    return _refused(f"timm:{name}.{tag[:place]}{tag[place + 1 :]}", f"did you mean {name}.")


def _unreachable(folder: Path, rng: Rng) -> Action:
    """A hub where nobody answers."""
    name = ("resnet10t", "vit_tiny_patch16_224", "convnext_atto")[rng.integers(3)]

    def run() -> Any:
        from huggingface_hub import constants

        from vice.models.load import load_extractor

        kept = {key: getattr(constants, key) for key in ("ENDPOINT", "HF_HUB_CACHE")}
        constants.ENDPOINT, constants.HF_HUB_CACHE = "http://127.0.0.1:9", str(folder)
        try:
            return load_extractor(f"timm:{name}")
        finally:
            for key, value in kept.items():
                setattr(constants, key, value)

    return Action(run=run, names=(f"timm:{name}@FILE",))


def _saved(content: Any, folder: Path, rng: Rng) -> str:
    return str(layouts.save(content, folder / "w.pth", rng))


def _stem(channels: bool, folder: Path, rng: Rng) -> Action:
    state = dict(layouts.resnet18())
    if channels:
        count = (1, 2, 4, 6, 13)[rng.integers(5)]
        state["conv1.weight"] = torch.ones(64, count, 7, 7)
        wanted = f"takes {count} channels"
    else:
        side = (3, 5)[rng.integers(2)]
        state["conv1.weight"] = torch.ones(64, 3, side, side)
        wanted = "MODULE:CALLABLE"
    before = layouts.prefix(rng)
    file = _saved({"state_dict": layouts.prefixed(state, before)}, folder, rng)
    door = ("", "torchvision:resnet18@") + (("timm:resnet18@",) if channels else ())
    return _refused(door[int(rng.integers(len(door)))] + file, wanted)


def _patches(folder: Path, rng: Rng) -> Action:
    state = dict(layouts.timm_state(layouts.VIT))
    count = (1, 4, 10)[rng.integers(3)]
    state["patch_embed.proj.weight"] = torch.ones(192, count, 16, 16)
    file = _saved({"model": state}, folder, rng)
    return _refused(f"timm:{layouts.VIT}@{file}", f"takes {count} channels")


def _wider(folder: Path, rng: Rng) -> Action:
    """The widths of a ResNeXt or a wide ResNet, where the stem and the first block are enough."""
    names = ("resnext50_32x4d", "wide_resnet50_2")
    name = names[int(rng.integers(len(names)))]
    state = _shapes("torchvision", name)
    large = {k: torch.ones(v.shape, dtype=torch.float16) for k, v in state.items()
             if k.startswith(("conv1", "bn1", "layer1"))}  # fmt: skip
    rest = {k: torch.ones(1) for k in state if k not in large}
    file = _saved(layouts.prefixed({**large, **rest}, layouts.prefix(rng)), folder, rng)
    return _refused(("", "torchvision:resnet50@")[rng.integers(2)] + file, f"timm:{name}@FILE")


def _other_network(name: str, remedy: str, folder: Path, rng: Rng) -> Action:
    state = _shapes("timm", name)
    content = {k: torch.ones(v.shape[:1]) for k, v in state.items()}
    return _refused(_saved({"model": content}, folder, rng), remedy)


def _safetensors(folder: Path, rng: Rng) -> Action:
    """Somebody else's safetensors, at the door for checkpoints of ViCE."""
    from safetensors.torch import save_file

    name = _NAMES[int(rng.integers(2))]
    state = {k: torch.ones(v.shape[:1]) for k, v in _shapes("timm", name).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    place = (folder, folder / "model.safetensors")[rng.integers(2)]
    return _refused(str(place), "timm:NAME@FILE")


def _module(folder: Path, rng: Rng) -> Action:
    net: Any = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    net = (net, torch.nn.DataParallel(net))[rng.integers(2)]
    content = (net, {"model": net}, {"epoch": 1, "net": net})[rng.integers(3)]
    file = _saved(content, folder, rng)
    return _refused(("", "timm:resnet18@", "torchvision:resnet18@")[rng.integers(3)] + file,
                    "state_dict()")  # fmt: skip


def _sound(make: Callable[[dict[str, torch.Tensor]], Any], folder: Path, rng: Rng) -> Action:
    """The good neighbor: the plain ResNet."""
    from vice.models.load import load_extractor

    file = _saved(make(layouts.resnet18()), folder, rng)
    return Action(run=lambda: load_extractor(file), names=(file,))


FAMILY = Family(
    GROUP,
    {
        "typo": ("refused", _typo),
        "tag": ("refused", _tag),
        "hub": ("refused", _unreachable),
        "stem/channels": ("refused", partial(_stem, True)),
        "stem/small": ("refused", partial(_stem, False)),
        "patches/channels": ("refused", _patches),
        "wider": ("refused", _wider),
        "squeezing": ("refused", partial(_other_network, "seresnet50", "timm:NAME@FILE")),
        "deep-stem": ("refused", partial(_other_network, "resnet50d", "timm:resnet50d@FILE")),
        "transformer": (
            "refused", partial(_other_network, "vit_tiny_patch16_224", "timm:NAME@FILE")
        ),
        "convolutional": ("refused", partial(_other_network, "convnext_atto", "timm:NAME@FILE")),
        "safetensors": ("refused", _safetensors),
        "module": ("refused", _module),
        "sound": ("worked", partial(_sound, lambda state: {"state_dict": state})),
    },
)  # fmt: skip
FIXED = FAMILY.listed()
drawn = FAMILY.drawn
