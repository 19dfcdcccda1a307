"""Memory: how much a user gives, and how much a network takes for each pixel of a tile."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: What a computation takes whatever the size of a tile: code and buffers of the libraries, and
#: results a band of rows at a time.
FIXED = 96 * 2**20
#: Allocators keep some of what they have been given back.
_SLACK = 1.25
#: Sides of the images that a network's memory is measured on, in pixels.
_SIDES = (128, 320)


def give_back() -> None:
    """Gives memory that was freed back to the system, where the C library keeps it (glibc).

    Maps of tiles are large and of many sizes: what is kept of one does not fit the next.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    # Other systems: no such function, or no such library.
    except (AttributeError, OSError, TypeError):
        return None
    return found


class _Live(TorchDispatchMode):
    """Counts bytes of tensors that are alive, and the most of them at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf)
        scratch = 0
        if "convolution" in str(func):
            # Blocked layouts: oneDNN copies what it is given and what it returns.
            scratch = args[0].nbytes + result.nbytes
        self.most = max(self.most, self.live + scratch)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def bytes_a_pixel(call: Callable[[Tensor], Tensor], device: torch.device) -> float:
    """Bytes that a network takes for each pixel of an image, by two images.

    Args:
        call: uint8 (1, 3, H, W) to what the network returns.
        device: Where it computes.
    """
    most = []
    for side in _SIDES:
        with _Live() as live:
            image = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device)
            call(image)
        most.append(live.most)
    pixels = [side * side for side in _SIDES]
    slope = (most[1] - most[0]) / (pixels[1] - pixels[0])
    return _SLACK * max(slope, most[1] / pixels[1])
