"""Foreign ResNets: the last stage of a plain one, taken as a dense embedding to be scored."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vice.model_specs import split_key
from vice.models.folding import Folding
from vice.models.resnet import ResNetFeatures
from vice.models.resnet_match import LEAST, MARKS, depth, match_resnet, not_a_resnet
from vice.models.weight_files import read_weights
from vice.models.weight_search import find_weights

#: Torchvision's names of the stem to those of `ResNetFeatures`.
_STEM = {"conv1": "stem.0.", "bn1": "stem.1."}
_OUTER = re.compile(r"^(conv1|bn1)\.")


class ResNetEmbedder(nn.Module):
    """The last stage of a ResNet at output stride 8 (the last two stages dilated, as in DeepLab).

    Args:
        name: ``"resnet18"`` to ``"resnet152"``.
        weights: As in `vice.models.resnet.ResNetFeatures`.
        output_stride: 8, 16 or 32.

    Attributes:
        dim: Width D of the embedding, 512 or 2048.
        stride: Pixels of the input for each pixel of the embedding.
        weight_source: Where in a file the weights were, for results.json; None without a file.
    """

    def __init__(self, name: str, weights: str | None = None, output_stride: int = 8) -> None:
        super().__init__()
        self.features = ResNetFeatures(name, output_stride, weights)
        self._folding = Folding()
        self.dim = self.features.channels[-1]
        self.stride = output_stride
        self.config = {"backbone": name, "output_stride": output_stride}
        self.weight_source: dict[str, Any] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.

        Returns:
            (B, D, ceil(H / stride), ceil(W / stride)), not normalised.
        """
        found: Tensor = self._folding(self.features, images)[-1]
        return found


def load_resnet(file: str | Path, name: str | None = None) -> ResNetEmbedder:
    """Reads the ResNet in a file of another framework.

    It is found by the names of its weights, wherever it lies in the file: torchvision's own
    files, VISSL's checkpoints, MoCo, DINO, Hugging Face's and others, under any prefix (see
    `vice.models.weight_search`). What is left over (classifiers, projection heads) is logged.

    Args:
        file: Written by `torch.save` or safetensors, or a folder of Hugging Face; ``FILE#KEY`` says
            which of several it is. Nothing but tensors is built from it.
        name: Which ResNet it must be; None takes what its layers say.

    Returns:
        The embedder; its ``weight_source`` says where in the file the weights were.

    Raises:
        UserError: No ResNet in the file, another one, one with missing weights, or several that
            differ.
    """
    path, key = split_key(file)
    weights = find_weights(
        read_weights(path),
        partial(match_resnet, name=name),
        file=path,
        key=key,
        least=LEAST,
        marks=MARKS,
        name=name or "a ResNet",
        nothing=not_a_resnet,
    )
    embedder = ResNetEmbedder(depth(weights.tensors) or "")
    wanted = embedder.features.state_dict()
    renamed = {_OUTER.sub(lambda m: _STEM[m[1]], key): v for key, v in weights.tensors.items()}
    embedder.features.load_state_dict({**wanted, **renamed})
    embedder.weight_source = weights.source
    return embedder
