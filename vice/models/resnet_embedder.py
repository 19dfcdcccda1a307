"""A plain ResNet of somebody else, its last stage taken as a dense embedding to be scored."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vice.errors import UserError
from vice.models.backbones import RESNETS, ResNetFeatures

logger = logging.getLogger(__name__)
#: Blocks of each stage, and whether they are bottlenecks, to name.
_DEPTHS = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
_MARK = "layer1.0.conv1.weight"


class ResNetEmbedder(nn.Module):
    """The last stage of a ResNet at output stride 8 (the last two stages dilated, as in DeepLab).

    Args:
        name: ``"resnet18"`` to ``"resnet152"``.
        weights: As in `vice.models.backbones.ResNetFeatures`.
        output_stride: 8, 16 or 32.

    Attributes:
        dim: Width D of the embedding, 512 or 2048.
        stride: Pixels of the input for each pixel of the embedding.
    """

    def __init__(self, name: str, weights: str | None = None, output_stride: int = 8) -> None:
        super().__init__()
        self.features = ResNetFeatures(name, output_stride, weights)
        self.dim = self.features.channels[-1]
        self.stride = output_stride
        self.config = {"backbone": name, "output_stride": output_stride}

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.

        Returns:
            (B, D, ceil(H / stride), ceil(W / stride)), not normalised.
        """
        return self.features(images)[-1]


def load_resnet(file: str | Path, name: str | None = None) -> ResNetEmbedder:
    """Reads the ResNet in a PyTorch checkpoint of another framework.

    It is found by the names of its weights, wherever it lies in the file: torchvision's own
    files, VISSL's checkpoints, MoCo, DINO and others that keep torchvision's names under a prefix.
    What is left over (classifiers, projection heads) is logged.

    Args:
        file: Written by `torch.save`; nothing but tensors is built from it.
        name: Which ResNet it must be; None takes what its layers say.

    Returns:
        The embedder.

    Raises:
        UserError: No ResNet in the file, another one, or one with missing weights.
    """
    from vice.foreign import read_tensors

    state = _find_resnet(read_tensors(file), file)
    found = _depth(state, file)
    if name is not None and found != name:
        raise UserError(f"{file} holds a {found}, not a {name}")
    embedder = ResNetEmbedder(found)
    wanted = embedder.features.state_dict()
    renamed = {
        re.sub(r"^(conv1|bn1)\.", lambda m: {"conv1": "stem.0.", "bn1": "stem.1."}[m[1]], key): v
        for key, v in state.items()
    }
    missing = [k for k in wanted if k not in renamed and not k.endswith("num_batches_tracked")]
    unlike = [k for k in wanted if k in renamed and renamed[k].shape != wanted[k].shape]
    if missing or unlike:
        raise UserError(
            f"{file}: its {found} lacks {len(missing)} weights and has {len(unlike)} of another "
            f"shape, for example {(missing + unlike)[0]}"
        )
    broken = [key for key in wanted if key in renamed and not renamed[key].isfinite().all()]
    if broken:
        raise UserError(f"{file}: {broken[0]} of its {found} holds values that are not finite")
    left = sorted({key.partition(".")[0] for key in renamed if key not in wanted})
    if left:
        logger.info("%s: not part of the embedder: %s", file, ", ".join(left))
    embedder.features.load_state_dict({**wanted, **{k: renamed[k] for k in wanted if k in renamed}})
    return embedder


def _find_resnet(content: Any, file: str | Path) -> dict[str, Tensor]:
    places = list(_places(content))
    if not places:
        raise UserError(
            f"{file}: no ResNet with torchvision's names of weights (layer1.0.conv1.weight) in it; "
            "give timm models as timm:NAME@FILE and anything else as MODULE:CALLABLE"
        )
    if len(places) > 1:
        others = ", ".join(where or "its top level" for where, _ in places[1:])
        logger.warning("%s: taking the ResNet at %s, not %s", file, places[0][0] or "top", others)
    return places[0][1]


def _places(content: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every ResNet in nested dicts: where it lies, and its weights without that prefix."""
    # No recursion: a file may nest dicts as deep as it likes, and one within itself.
    left, seen = [("", content)], set()
    while left:
        where, group = left.pop()
        if not isinstance(group, Mapping):
            continue
        for key, value in group.items():
            if isinstance(key, str) and key.endswith(_MARK) and isinstance(value, Tensor):
                prefix = key.removesuffix(_MARK)
                yield where + prefix, _below(group, prefix)
        if id(group) not in seen:
            left += [(f"{where}{key}/", value) for key, value in reversed(list(group.items()))]
        seen.add(id(group))


def _below(group: Mapping[Any, Any], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in group.items()
        if isinstance(name, str) and name.startswith(prefix) and isinstance(value, Tensor)
    }


def _depth(state: Mapping[str, Tensor], file: str | Path) -> str:
    blocks = {match.groups() for key in state if (match := re.match(r"layer([1-4])\.(\d+)\.", key))}
    counts = tuple(sum(stage == str(k) for stage, _ in blocks) for k in range(1, 5))
    name = _DEPTHS.get((counts, "layer1.0.conv3.weight" in state))
    if name is None:
        raise UserError(f"{file}: {counts} blocks are none of {', '.join(RESNETS)}")
    return name
