"""Finds what makes a host wait for its GPU, with PyTorch's meta device in the GPU's place.

Tensors of the meta device have sizes but no values: whatever reads a value, or needs one to know
how large a result is, fails on it, and on a GPU waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

#: Make tensors of the host's values; where that is not on the host, the host waits.
CARRYING = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)


class NoWaiting(TorchDispatchMode):
    """Refuses copies between host and device that the host waits for.

    Attributes:
        calls: Operations so far.
        carried: Copies to the device so far that the host did not wait for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.carried = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name
        if name in ("aten::_to_copy", "aten::copy_"):
            source = args[0] if name == "aten::_to_copy" else args[1]
            place = torch.device(kwargs.get("device") or args[0].device)
            if place.type != source.device.type:
                waits = name == "aten::copy_" or not kwargs.get("non_blocking")
                assert not waits, f"{name}: the host waits from {source.device} to {place}"
                self.carried += 1
        self.calls += 1
        return func(*args, **kwargs)


class NothingCarried(TorchFunctionMode):
    """Refuses tensors of the device that are made of numbers of the host."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        assert func not in CARRYING or result.device.type == "cpu", func
        return result


@contextmanager
def no_waiting() -> Iterator[NoWaiting]:
    """Refuses in its block what makes the host wait for the meta device."""
    with NoWaiting() as counted, NothingCarried():
        yield counted
