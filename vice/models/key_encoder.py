"""Momentum encoder: a copy of an embedder whose weights follow it slowly (MoCo)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vice.models.embedder import Embedder
from vice.runtime.rank_buffers import RankBuffers

Run = Callable[[nn.Module, Tensor], Tensor]


class KeyEncoder(RankBuffers):
    """Encodes images without gradient, with weights that follow those of an embedder.

    It is in the mode of the embedder: in training its batch normalization takes the statistics of
    its own batches, on each rank, and its running statistics are each rank's own. Keys are not
    shuffled over the ranks (MoCo): on one rank that changes nothing, and on several a key shares
    its statistics with the other keys of its rank's batch, which it is told from as well.

    Args:
        group: Process group; None is the default group.
    """

    network: nn.Module

    def __init__(self, group: Any = None) -> None:
        super().__init__(group)
        # Not a submodule: the embedder is trained elsewhere, and moved and saved there.
        self._followed: tuple[nn.Module, Run] | None = None

    def bind(self, embedder: nn.Module, run: Run) -> None:
        """Takes a copy of an embedder; nothing is encoded before.

        Args:
            embedder: What is followed.
            run: How networks are called: with the network and images.
        """
        self.network = copy.deepcopy(embedder).requires_grad_(False)
        # It follows at each step, whatever its embedder says of itself.
        if isinstance(self.network, Embedder):
            self.network.constant = False
        self._followed = (embedder, run)

    @torch.no_grad()
    def become(self) -> None:
        """Takes the embedder's weights and statistics as they are now."""
        self.network.load_state_dict(self._bound[0].state_dict())

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """``k <- m k + (1 - m) q`` for each weight; statistics are the copy's own."""
        own, theirs = (list(each.parameters()) for each in (self.network, self._bound[0]))
        torch._foreach_lerp_(own, theirs, 1 - momentum)
        self.forget()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to the embedding (B, D, h, w)."""
        embedder, run = self._bound
        self.network.train(embedder.training)
        self.forget()
        return run(self.network, images)

    @property
    def _bound(self) -> tuple[nn.Module, Run]:
        if self._followed is None:
            raise ValueError("a key encoder must be bound to an embedder first")
        return self._followed
