"""Pickled values that are allowed: plain containers, tensors, and records of all else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vice.models.tensor_storage import Storage

#: Most parts of a key of a dict, which are hashed one by one.
_MAX_KEY_PARTS = 1000


class Inert(dict):  # type: ignore[type-arg]
    """Stands in for an object of a class that is not allowed; keeps its items and state.

    Attributes:
        kind: The class, ``"module.name"``.
    """

    def __init__(self, kind: str = "") -> None:
        super().__init__()
        self.kind = kind


@dataclass(frozen=True)
class Foreign:
    """A class or function that a file names and that is not allowed."""

    kind: str


@dataclass(frozen=True)
class Allowed:
    """A class or function that a pickle may call."""

    kind: str
    call: Callable[..., Any]


def _tensor(storage: Storage, offset: int, size: Any, stride: Any, *extra: Any) -> Tensor:
    del extra  # gradients and hooks
    return storage.view(offset, size, stride)


def _tensor_of_dtype(storage: Storage, offset: int, size: Any, stride: Any, *extra: Any) -> Tensor:
    return storage.view(offset, size, stride, extra[2])


def _first(value: Any, *extra: Any) -> Any:
    """A parameter is its tensor."""
    del extra
    return value


def _subclass(make: Any, kind: Any, args: Any, state: Any) -> Any:
    """A tensor with attributes is its tensor."""
    del kind, state
    return call_allowed(make, args)


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1", "utf-8"):
        raise ValueError(f"encoding {encoding!r}")
    return text.encode(encoding)


def _bytes(value: Any = b"", encoding: str = "") -> bytearray:
    # Constructor argument: a number would be a length.
    return bytearray(_encode(value, encoding) if isinstance(value, str) else bytes(value[:]))


def _dict_of(items: Any = ()) -> OrderedDict[Any, Any]:
    entries: OrderedDict[Any, Any] = OrderedDict()
    for key, value in items.items() if isinstance(items, dict) else items:
        fill_dict(entries, [key, value])
    return entries


def _default_dict(*args: Any) -> dict[Any, Any]:
    del args
    return {}


def _set(items: Any = ()) -> set[Any]:
    check_keys(items)
    return set(items)


CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dict_of,
    "collections.defaultdict": _default_dict,
    "collections.Counter": _dict_of,
    "builtins.set": _set,
    "builtins.bytearray": _bytes,
    "_codecs.encode": _encode,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch.device": torch.device,
    "torch.Size": lambda sizes=(): torch.Size(sizes),
}


def storage_dtype(name: str) -> torch.dtype | None:
    """The type of the numbers in a class of storages, such as ``"FloatStorage"``."""
    if name == "UntypedStorage":
        return torch.uint8
    storage = vars(torch).get(name) if name.endswith("Storage") else None
    dtype = getattr(storage, "_dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else None


def call_allowed(function: Any, args: Any) -> Any:
    """Calls what may be called; of all else the call is a record."""
    if isinstance(function, Allowed):
        return function.call(*args)
    if isinstance(function, Foreign):
        return Inert(function.kind)
    if isinstance(function, Inert):
        return Inert(f"{function.kind}()")
    raise ValueError(f"it calls a {type(function).__name__}")


def fill_list(target: Any, items: list[Any]) -> None:
    """Appends to a list; records drop what they are given."""
    if type(target) is list:
        target.extend(items)
    elif not isinstance(target, Inert):
        raise ValueError(f"it appends to a {type(target).__name__}")


def fill_dict(target: Any, items: list[Any]) -> None:
    """Sets keys and values, which come in turn."""
    if not isinstance(target, dict):
        raise ValueError(f"it sets items of a {type(target).__name__}")
    check_keys(items[::2])
    for index in range(0, len(items) - 1, 2):
        target[items[index]] = items[index + 1]


def check_keys(keys: Iterable[Any]) -> None:
    """Keys of keys of keys would be hashed without an end."""
    for key in keys:
        pending, parts = [key], 0
        while pending:
            part = pending.pop()
            if isinstance(part, (tuple, frozenset)):
                parts += len(part) + 1
                if parts > _MAX_KEY_PARTS:
                    raise ValueError("a key of a dict has too many parts")
                pending += part
