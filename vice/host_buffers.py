"""Counters that are read on the host, in modules that live on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn


class HostBuffers(nn.Module):
    """A module some of whose buffers stay where they are when it is moved.

    They travel in its state like any other; but what decides on the host, a counter for example,
    must not be read from a GPU, because reading waits until the GPU has done all it was told.

    Attributes:
        on_host: Names of these buffers.
    """

    on_host: ClassVar[tuple[str, ...]] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HostBuffers:
        kept = {name: self._buffers[name] for name in self.on_host}
        super()._apply(fn, recurse)
        self._buffers.update(kept)
        return self
