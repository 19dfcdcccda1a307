"""Safe unpickler, which builds data and nothing else: containers, tensors, inert records.

A pickle is a program that names functions and calls them. Here every opcode that calls, builds or
fills an object acts on an allow-list only. A class that is not on it becomes an inert record that
keeps its items and state, so that a file may name any class and none of it runs. Memory and time
are bounded by the length of the pickle, whatever lengths and memo numbers it claims.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

from vice.models.pickled_values import (
    CALLS,
    Allowed,
    Foreign,
    Inert,
    call_allowed,
    check_keys,
    fill_dict,
    fill_list,
    storage_dtype,
)

#: Most opcodes of one pickle; a checkpoint of 100,000 tensors has fewer.
MAX_STEPS = 5_000_000


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
        # Pure-Python unpickler: the compiled one takes memory for any memo number and any length.
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
        # Catch-all: opcodes that do not fit together raise almost any exception.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"its pickle is not whole ({reason})") from error

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle gets for a name."""
        # Python 2 name.
        kind = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if kind in CALLS:
            return Allowed(kind, CALLS[kind])
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
        self.remaining = MAX_STEPS

    def __getitem__(self, code: int) -> Any:
        self.remaining -= 1
        if self.remaining < 0:
            raise ValueError(f"its pickle takes more than {MAX_STEPS} steps")
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Any:
        raise ValueError("it is no pickle")


def _reduce(self: Any) -> None:
    args = self.stack.pop()
    self.append(call_allowed(self.stack.pop(), args))


def _newobj_ex(self: Any) -> None:
    self.stack.pop()
    _reduce(self)


def _inst(self: Any) -> None:
    module = self.readline()[:-1].decode("utf-8")
    name = self.readline()[:-1].decode("utf-8")
    target = self.find_class(module, name)
    args = self.pop_mark()
    self.append(call_allowed(target, args))


def _obj(self: Any) -> None:
    function, *args = self.pop_mark()
    self.append(call_allowed(function, args))


def _build(self: Any) -> None:
    state = self.stack.pop()
    target = self.stack[-1]
    parts = state if isinstance(state, tuple) else (state,)
    groups = [part for part in parts if isinstance(part, dict)]
    if isinstance(target, Inert):
        for group in groups:
            target.update(group)
    elif isinstance(target, OrderedDict):
        # Attribute filter: any other would take the place of a method.
        for group in groups:
            if isinstance(group.get("_metadata"), dict):
                target._metadata = group["_metadata"]  # type: ignore[attr-defined]


def _append(self: Any) -> None:
    value = self.stack.pop()
    fill_list(self.stack[-1], [value])


def _appends(self: Any) -> None:
    items = self.pop_mark()
    fill_list(self.stack[-1], items)


def _setitem(self: Any) -> None:
    value = self.stack.pop()
    key = self.stack.pop()
    fill_dict(self.stack[-1], [key, value])


def _setitems(self: Any) -> None:
    items = self.pop_mark()
    fill_dict(self.stack[-1], items)


def _dict(self: Any) -> None:
    items = self.pop_mark()
    entries: dict[Any, Any] = {}
    fill_dict(entries, items)
    self.append(entries)


def _additems(self: Any) -> None:
    items = self.pop_mark()
    check_keys(items)
    if type(self.stack[-1]) is not set:
        raise ValueError("it adds to what is no set")
    self.stack[-1].update(items)


def _frozenset(self: Any) -> None:
    items = self.pop_mark()
    check_keys(items)
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
