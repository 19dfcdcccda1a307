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
        # After the submodules, which take what the state has under their own names.
        self.register_load_state_dict_post_hook(_take_own)

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
        """Keeps the buffers of all ranks until the whole state is loaded."""
        self._loaded = state

    def _sendable(self, value: Tensor) -> Tensor:
        # NCCL takes tensors of the GPU: those that stay on the host travel with the others.
        device = next((b.device for b in self.buffers() if b.is_cuda), value.device)
        return value.to(device)


def _take_own(module: RankBuffers, incompatible_keys: Any) -> None:
    del incompatible_keys
    state, module._loaded = module._loaded, {}
    if not state:
        return
    own_rank = rank(module.group)
    if own_rank >= len(next(iter(state.values()))):
        module.begin()
        return
    for name, value in module.named_buffers():
        value.copy_(state[name][own_rank])
