"""Asynchronous copies between the host and a GPU, without the one waiting for the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn


def to_device(array: np.ndarray, device: torch.device | str) -> Tensor:
    """A copy of an array on a device; the host goes on while it travels.

    Args:
        array: Any shape; its dtype one that PyTorch has.
        device: Where the copy is made.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if torch.device(device).type == "cuda":
        # Pinned memory: from other memory the copy waits for all that was queued before.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Arriving:
    """A tensor on its way to the host, which waits for it only when it reads it.

    Args:
        tensor: On any device; a GPU's is copied as soon as the GPU has it.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._arrived: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def read(self) -> Tensor:
        """The tensor, on the host."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensor.cpu()


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
