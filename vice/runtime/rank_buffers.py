"""Buffers that differ by rank, in a state that one rank writes for all of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vice.runtime.collectives import all_gather, rank, world_size
from vice.runtime.device import HostBuffers


class RankBuffers(HostBuffers):
    """A module whose buffers, and those of its submodules, are each rank's own.

    A checkpoint that one rank writes needs the buffers of all: call `collect` on every rank just
    before its state is read. On loading, each rank takes its own; one that the checkpoint does not
    know calls `begin`.

    Args:
        group: Process group; None is the default group.
    """

    def __init__(self, group: Any = None) -> None:
        super().__init__()
        self.group = group
        self._of_ranks: dict[str, list[Tensor]] = {}
        self._loaded: dict[str, list[Tensor]] = {}
        # Once more after the submodules, which take what the state has under their own names.
        self.register_load_state_dict_post_hook(_take_again)

    def begin(self) -> None:
        """For a rank that was not there when the state was written."""

    def collect(self) -> None:
        """Gathers the buffers of all ranks for the state that is read next; a collective call."""
        if world_size(self.group) > 1:
            self._of_ranks = {
                name: [part.cpu() for part in all_gather(self._sendable(value), self.group)]
                for name, value in self.named_buffers()
            }

    def forget(self) -> None:
        """Drops what was collected, which is of the past once a buffer has changed."""
        self._of_ranks = {}

    def get_extra_state(self) -> dict[str, list[Tensor]]:
        """What `collect` gathered; empty for a single rank, and after `forget`."""
        return self._of_ranks

    def set_extra_state(self, state: dict[str, list[Tensor]]) -> None:
        """Takes this rank's buffers out of those of all ranks."""
        self._loaded = state
        self._take_own()

    def _take_own(self) -> None:
        if not self._loaded:
            return
        own_rank = rank(self.group)
        if own_rank >= len(next(iter(self._loaded.values()))):
            self.begin()
            return
        for name, value in self.named_buffers():
            value.copy_(self._loaded[name][own_rank])

    def _sendable(self, value: Tensor) -> Tensor:
        # NCCL takes tensors of the GPU: those that stay on the host travel with the others.
        device = next((b.device for b in self.buffers() if b.is_cuda), value.device)
        return value.to(device)


def _take_again(module: RankBuffers, incompatible_keys: Any) -> None:
    del incompatible_keys
    module._take_own()
    module._loaded = {}
