"""Queue of past region vectors, which enlarges the batch that is assigned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vice.runtime.rank_buffers import RankBuffers


class RegionQueue(RankBuffers):
    """First-in first-out store of past region vectors of view 0 (this rank's share).

    Embeddings are stored, not scores, so that they are always compared with the current
    prototypes. A batch larger than the queue leaves its newest vectors. The state is kept in
    buffers and travels in checkpoints as `vice.runtime.rank_buffers.RankBuffers` says; a rank that
    a checkpoint does not know starts empty.

    Args:
        length: Vectors the queue can hold; 0 turns it off.
        dim: Width D of a vector.
        group: Process group; None is the default group.
    """

    vectors: Tensor
    born: Tensor
    pushed: Tensor
    clock: Tensor
    on_host = ("born", "pushed", "clock")

    def __init__(self, length: int, dim: int, group: Any = None) -> None:
        super().__init__(group)
        self.register_buffer("vectors", torch.zeros(length, dim))
        self.register_buffer("born", torch.zeros(length, dtype=torch.long))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long))
        self.register_buffer("clock", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        return min(int(self.pushed), self.capacity)

    @property
    def capacity(self) -> int:
        """Vectors the queue can hold."""
        return self.vectors.shape[0]

    @torch.no_grad()
    def push(self, vectors: Tensor) -> None:
        """Adds vectors (N, D) as the newest, dropping the oldest, and advances the clock."""
        self.clock += 1
        self.forget()
        if self.capacity == 0:
            return
        kept = vectors.detach()[-self.capacity :].to(self.vectors.dtype)
        self.pushed += vectors.shape[0]
        end = int(self.pushed)
        for value, new in ((self.vectors, kept), (self.born, self.clock.expand(len(kept)))):
            slots = torch.arange(end - len(kept), end, device=value.device) % self.capacity
            value.index_copy_(0, slots, new)

    def stored(self) -> Tensor:
        """The vectors held at present, (len(self), D), in no particular order."""
        return self.vectors[: len(self)]

    def age(self) -> float:
        """Mean number of pushes since the stored vectors came in; 0 when empty."""
        held = len(self)
        return float((self.clock - self.born[:held]).double().mean()) if held else 0.0

    def begin(self) -> None:
        """Empty, on a rank that was not there."""
        self.pushed.zero_()
