"""Whether a network is still what it was when its normalizations were folded."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from functools import partial
from itertools import chain
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: Batch normalizations that are folded.
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
#: What is folded, and the types of its values: weights, and how many batches were seen.
_FOLDED = (nn.Conv2d, *NORMS)
_DTYPES = (torch.float32, torch.int64)


class Snapshot:
    """A network as it was; looked at before each call, so lists are read that C goes through."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        modules = [*network.modules()]
        self._modules = modules
        self._holders = [held for m in modules for held in (m._modules, m._parameters, m._buffers)]
        self._held = _values(self._holders)
        self._hooks = [held for m in modules for held in (m._forward_hooks, m._forward_pre_hooks)]
        # Strides, bounds, modes: whatever can be compared of a module's attributes.
        self._dicts = [module.__dict__ for module in modules]
        self._attributes = [
            partial(held.get, name)
            for held in self._dicts
            for name, value in held.items()
            if not name.startswith("_") and _is_comparable(value)
        ]
        tensors = _values([held for m in modules for held in (m._parameters, m._buffers)])
        self._tensors: list[Tensor] = [tensor for tensor in tensors if tensor is not None]
        folded = [(m, t) for m in modules if isinstance(m, _FOLDED) for t in _own_tensors(m)]
        # Dropout: what is random in training would have to be drawn for the comparison, too.
        self.usable = (
            not any(self._hooks)
            and not any(module.training for module in modules)
            and all(t.device.type == "cpu" and not t.is_inference() for t in self._tensors)
            and all(tensor.dtype in _DTYPES for _, tensor in folded)
        )
        if self.usable:
            arrays = [(module, tensor.detach().numpy()) for module, tensor in folded]
            norms = [array for module, array in arrays if isinstance(module, NORMS)]
            convs = [array for module, array in arrays if not isinstance(module, NORMS)]
            # Bytes: NaN is itself.
            self._samples = [each.tobytes for each in (*norms, *chain(*map(_sampled, convs)))]
            self._facts = self._read_facts()
            self._plain_values = [copy.deepcopy(read()) for read in self._attributes]
            self._bytes = [read() for read in self._samples]

    def holds(self, network: nn.Module) -> bool:
        """Whether it is the network, and nothing has changed."""
        held = _values(self._holders)
        return (
            network is self.network
            and len(held) == len(self._held)
            and all(map(operator.is_, held, self._held))
            and not any(self._hooks)
            and self._read_facts() == self._facts
            and [read() for read in self._attributes] == self._plain_values
            # Last: what has moved, as into shared memory, must not be read where it was.
            and [read() for read in self._samples] == self._bytes
        )

    def _read_facts(self) -> list[Any]:
        # Versions count no changes through ``.data``, as moving averages of weights are taken.
        return [
            [(type(module), "forward" in module.__dict__) for module in self._modules],
            [(tensor.data_ptr(), tensor._version) for tensor in self._tensors],
            [*map(len, self._dicts)],
        ]


def _is_comparable(value: Any) -> bool:
    """Whether it can be compared with a copy of itself, whatever it holds."""
    if isinstance(value, dict):
        return all(map(_is_comparable, chain(value, value.values())))
    if isinstance(value, (tuple, list, set)):
        return all(map(_is_comparable, value))
    plain = (bool, int, float, str, type(None), FunctionType, BuiltinFunctionType)
    return isinstance(value, plain)


def _own_tensors(module: nn.Module) -> list[Tensor]:
    own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return [tensor for tensor in own if tensor.numel()]


def _values(holders: Sequence[dict[str, Any]]) -> list[Any]:
    return [*chain.from_iterable(held.values() for held in holders)]


def _sampled(array: np.ndarray) -> list[np.ndarray]:
    """The first number, the last, and one between them."""
    places = {0, array.size // 2, array.size - 1}
    found = [np.unravel_index(place, array.shape) for place in places]
    return [array[tuple(slice(int(i), int(i) + 1) for i in place)] for place in found]
