"""Memory: how much a user gives, and how much a network takes for each pixel of a tile."""

from __future__ import annotations

import ctypes
import re
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vice.errors import UserError

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", 1):
    _UNITS[f"{_letter}b"] = 1000**_power
    _UNITS[f"{_letter}ib"] = _UNITS[_letter] = 1024**_power
_TEXT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z]*)\s*")
#: What a computation takes whatever the size of a tile: code and buffers of the libraries, and
#: results a band of rows at a time.
FIXED = 96 * 2**20
#: Allocators keep some of what they have been given back.
_SLACK = 1.25
#: Sides of the images that a network's memory is measured on, in pixels.
_SIDES = (128, 320)


def to_bytes(memory: int | str, name: str = "memory") -> int:
    """Bytes that an amount of memory says: a number of them, or a text such as ``"2GiB"``.

    Args:
        memory: K, M, G and T with ``iB`` (or alone) are powers of 1024, with ``B`` of 1000.
        name: What it is called, for the message.

    Raises:
        UserError: It is no amount of memory, or none at all.
    """
    match = _TEXT.fullmatch(memory) if isinstance(memory, str) else None
    value = 0
    if isinstance(memory, int) and not isinstance(memory, bool):
        value = memory
    elif match and match[2].lower() in _UNITS:
        value = int(float(match[1]) * _UNITS[match[2].lower()])
    if value < 1:
        raise UserError(
            f"{name}={memory!r} is no amount of memory: give bytes, or a text such as '2GiB'"
        )
    return value


def in_words(count: float) -> str:
    """An amount of memory, for people."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1024:.3g} KiB"


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
