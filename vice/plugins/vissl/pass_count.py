"""How many images go through the networks of a training: what a step and an epoch cost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vice.runtime.collectives import world_size


class PassCount:
    """Counts images, views and crops in the forward passes of an embedder and of its copies.

    What is computed with gradients goes backward too, through all that is trained. A compiled
    network is not counted: its graph would be made anew with every number.

    Ranks are counted as this one: their steps are as large, and their parts of a pass over all
    images differ by a group at most.
    """

    def __init__(self) -> None:
        self.trained = self.forward_only = 0

    def watch(self, embedder: nn.Module) -> None:
        """Counts from now on; copies that are made later count here, too."""
        embedder.register_forward_hook(self)

    def __call__(self, network: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
        """The forward hook."""
        if torch.is_grad_enabled():
            self.trained += len(args[0])
        else:
            self.forward_only += len(args[0])

    def __deepcopy__(self, memo: dict[int, Any]) -> PassCount:
        # Momentum encoder: a copy of the network has a copy of its hooks.
        return self

    def take(self) -> dict[str, int]:
        """What has been counted since the last call, on all ranks."""
        ranks = world_size()
        counted = {
            "views_trained": self.trained * ranks,
            "views_forward_only": self.forward_only * ranks,
        }
        self.trained = self.forward_only = 0
        return counted
