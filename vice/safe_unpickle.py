"""An unpickler that builds data and nothing else: plain containers, tensors, inert records.

A pickle is a program that names functions and calls them. Here every opcode that calls, builds or
fills an object acts on an allow-list only. A class that is not on it becomes an inert record that
keeps its items and state, so that a file may name any class and none of it runs. Memory and time
are bounded by the length of the pickle, whatever lengths and memo numbers it claims.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from vice.tensor_storage import Storage

#: Most opcodes of one pickle; a checkpoint of 100,000 tensors has fewer.
MAX_STEPS = 5_000_000
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
class _Allowed:
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
    return _call(make, args)


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1", "utf-8"):
        raise ValueError(f"encoding {encoding!r}")
    return text.encode(encoding)


def _bytes(value: Any = b"", encoding: str = "") -> bytearray:
    # A number would be a length.
    return bytearray(_encode(value, encoding) if isinstance(value, str) else bytes(value[:]))


def _dict_of(items: Any = ()) -> OrderedDict[Any, Any]:
    found: OrderedDict[Any, Any] = OrderedDict()
    for key, value in items.items() if isinstance(items, dict) else items:
        _fill_dict(found, [key, value])
    return found


def _default_dict(*args: Any) -> dict[Any, Any]:
    del args
    return {}


def _set(items: Any = ()) -> set[Any]:
    _check_keys(items)
    return set(items)


_CALLS: dict[str, Callable[..., Any]] = {
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
    found = vars(torch).get(name) if name.endswith("Storage") else None
    dtype = getattr(found, "_dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else None


class DataUnpickler(pickle._Unpickler):
    """Reads one pickle from a stream; see the module.

    Args:
        file: At the start of the pickle.
        find: What a persistent id stands for, such as a storage.
        strict: Whether a class that is not allowed is an error instead of an inert record.

    Raises:
        ValueError: By `load`: it is broken, or does what is not allowed.
    """

    def __init__(
        self,
        file: BinaryIO,
        find: Callable[[Any], Any] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        # Not the compiled one, which takes memory for any memo number and any length.
        super().__init__(file, fix_imports=False, encoding="utf-8")
        self.find = find
        self.strict = strict
        self.dispatch = _Counted(self.dispatch)  # type: ignore[misc]

    def load(self) -> Any:
        """The object."""
        try:
            return super().load()
        except ValueError:
            raise
        except EOFError as error:
            raise ValueError("it is cut short") from error
        # Opcodes that do not fit together meet almost any exception.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"its pickle is not whole ({reason})") from error

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle gets for a name."""
        # Python 2's name.
        kind = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if kind in _CALLS:
            return _Allowed(kind, _CALLS[kind])
        if module in ("torch", "torch.cuda", "torch.storage"):
            value = vars(torch).get(name)
            dtype = value if isinstance(value, torch.dtype) else storage_dtype(name)
            if dtype is not None:
                return dtype
        if self.strict:
            raise ValueError(f"it names {kind}")
        return Foreign(kind)

    def persistent_load(self, pid: Any) -> Any:
        """What a persistent id stands for."""
        if self.find is None:
            raise ValueError("it names a storage outside the file")
        return self.find(pid)


class _Counted(dict):  # type: ignore[type-arg]
    """Opcodes to what they do, for so many steps."""

    def __init__(self, dispatch: dict[int, Any]) -> None:
        super().__init__({**dispatch, **_OPCODES})
        self.left = MAX_STEPS

    def __getitem__(self, code: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"its pickle takes more than {MAX_STEPS} steps")
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Any:
        raise ValueError("it is no pickle")


def _call(function: Any, args: Any) -> Any:
    if isinstance(function, _Allowed):
        return function.call(*args)
    if isinstance(function, Foreign):
        return Inert(function.kind)
    if isinstance(function, Inert):
        return Inert(f"{function.kind}()")
    raise ValueError(f"it calls a {type(function).__name__}")


def _reduce(self: Any) -> None:
    args = self.stack.pop()
    self.append(_call(self.stack.pop(), args))


def _newobj_ex(self: Any) -> None:
    self.stack.pop()
    _reduce(self)


def _inst(self: Any) -> None:
    module = self.readline()[:-1].decode("utf-8")
    name = self.readline()[:-1].decode("utf-8")
    found = self.find_class(module, name)
    args = self.pop_mark()
    self.append(_call(found, args))


def _obj(self: Any) -> None:
    function, *args = self.pop_mark()
    self.append(_call(function, args))


def _build(self: Any) -> None:
    state = self.stack.pop()
    target = self.stack[-1]
    parts = state if isinstance(state, tuple) else (state,)
    groups = [part for part in parts if isinstance(part, dict)]
    if isinstance(target, Inert):
        for group in groups:
            target.update(group)
    elif isinstance(target, OrderedDict):
        # Any other attribute would take the place of a method.
        for group in groups:
            if isinstance(group.get("_metadata"), dict):
                target._metadata = group["_metadata"]  # type: ignore[attr-defined]


def _fill_list(target: Any, items: list[Any]) -> None:
    if type(target) is list:
        target.extend(items)
    elif not isinstance(target, Inert):
        raise ValueError(f"it appends to a {type(target).__name__}")


def _fill_dict(target: Any, items: list[Any]) -> None:
    if not isinstance(target, dict):
        raise ValueError(f"it sets items of a {type(target).__name__}")
    _check_keys(items[::2])
    for place in range(0, len(items) - 1, 2):
        target[items[place]] = items[place + 1]


def _check_keys(keys: Iterable[Any]) -> None:
    """Keys of keys of keys would be hashed without an end."""
    for key in keys:
        left, parts = [key], 0
        while left:
            part = left.pop()
            if isinstance(part, (tuple, frozenset)):
                parts += len(part) + 1
                if parts > _MAX_KEY_PARTS:
                    raise ValueError("a key of a dict has too many parts")
                left += part


def _append(self: Any) -> None:
    value = self.stack.pop()
    _fill_list(self.stack[-1], [value])


def _appends(self: Any) -> None:
    items = self.pop_mark()
    _fill_list(self.stack[-1], items)


def _setitem(self: Any) -> None:
    value = self.stack.pop()
    key = self.stack.pop()
    _fill_dict(self.stack[-1], [key, value])


def _setitems(self: Any) -> None:
    items = self.pop_mark()
    _fill_dict(self.stack[-1], items)


def _dict(self: Any) -> None:
    items = self.pop_mark()
    found: dict[Any, Any] = {}
    _fill_dict(found, items)
    self.append(found)


def _additems(self: Any) -> None:
    items = self.pop_mark()
    _check_keys(items)
    if type(self.stack[-1]) is not set:
        raise ValueError("it adds to what is no set")
    self.stack[-1].update(items)


def _frozenset(self: Any) -> None:
    items = self.pop_mark()
    _check_keys(items)
    self.append(frozenset(items))


def _bytearray(self: Any) -> None:
    length = int.from_bytes(self.read(8), "little")
    self.append(bytearray(self.read(length)))


def _refuse(self: Any) -> None:
    raise ValueError("it uses opcodes that need the program which wrote it")


#: What pickle's own opcodes would do to any object, done to allowed ones.
_OPCODES = {
    pickle.REDUCE[0]: _reduce,
    pickle.NEWOBJ[0]: _reduce,
    pickle.NEWOBJ_EX[0]: _newobj_ex,
    pickle.INST[0]: _inst,
    pickle.OBJ[0]: _obj,
    pickle.BUILD[0]: _build,
    pickle.APPEND[0]: _append,
    pickle.APPENDS[0]: _appends,
    pickle.SETITEM[0]: _setitem,
    pickle.SETITEMS[0]: _setitems,
    pickle.DICT[0]: _dict,
    pickle.ADDITEMS[0]: _additems,
    pickle.FROZENSET[0]: _frozenset,
    pickle.BYTEARRAY8[0]: _bytearray,
    **{code[0]: _refuse for code in (pickle.EXT1, pickle.EXT2, pickle.EXT4)},
    **{code[0]: _refuse for code in (pickle.NEXT_BUFFER, pickle.READONLY_BUFFER)},
}
