"""Legacy PyTorch files, from before zip archives: a stream of pickles, and a tar of three.

Layouts as `torch.save` wrote them until version 1.5 and until version 0.1.
"""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

import torch

from vice.models.safe_unpickle import DataUnpickler
from vice.models.tensor_storage import Storage

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_NUMBER = struct.Struct("<q")
_BLOCK = 512


class _Bounded:
    """A stream that promises no more than it has; Python's takes memory for what is asked."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self.file = file
        self.length = length

    def read(self, size: int) -> bytes:
        if size > self.length - self.file.tell():
            raise ValueError("it is cut short")
        return self.file.read(size)

    def readline(self) -> bytes:
        return self.file.readline()

    def fill(self, data: bytearray) -> None:
        if self.file.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise ValueError("it is cut short")

    def number(self) -> int:
        value: int = _NUMBER.unpack(self.read(8))[0]
        return value


def _load(stream: Any, **options: Any) -> Any:
    return DataUnpickler(stream, **options).load()


class _Storages:
    """Storages that are named before their numbers come; together no longer than the file."""

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.known: dict[Any, Storage] = {}

    def make(self, key: Any, dtype: Any, numel: Any) -> Storage:
        if not isinstance(dtype, torch.dtype) or type(numel) is not int or numel < 0:
            raise ValueError("a storage without a type or size")
        if _plain(key) not in self.known:
            self.remaining -= numel * dtype.itemsize
            if self.remaining < 0:
                raise ValueError("it is cut short")
            self.known[key] = Storage(dtype, numel, bytearray(numel * dtype.itemsize))
        return self.known[key]


def read_stream(file: BinaryIO, length: int, *, strict: bool = False) -> Any:
    """Reads the layout of PyTorch 0.2 to 1.5.

    Args:
        file: At its start.
        length: Of the file in bytes.
        strict: As in `vice.models.safe_unpickle.DataUnpickler`.

    Raises:
        ValueError: Not this layout, or not whole.
    """
    stream, storages = _Bounded(file, length), _Storages(length)
    if _load(stream) != _MAGIC:
        raise ValueError("it is a pickle of something else than torch.save")
    if _load(stream) != _PROTOCOL:
        raise ValueError("its protocol is unknown")
    system = _load(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its byte order is unknown")

    def find(pid: Any) -> Any:
        kind, *rest = pid
        if _text(kind) == "module":
            return rest[0]
        if _text(kind) != "storage":
            raise ValueError("it refers to what is no storage")
        dtype, key, _, numel, view = rest
        storage = storages.make(key, dtype, numel)
        return storage if view is None else _part(storage, view[1], view[2])

    content = _load(stream, find=find, strict=strict)
    keys = _load(stream)
    if not isinstance(keys, list) or set(map(_plain, keys)) != set(storages.known):
        raise ValueError("its list of storages is not whole")
    for key in keys:
        storage = storages.known[key]
        if stream.number() != storage.numel or not isinstance(storage.data, bytearray):
            raise ValueError("a storage has two sizes")
        stream.fill(storage.data)
    return content


def _plain(key: Any) -> Any:
    """A key that takes no time to compare."""
    if type(key) not in (str, int, bytes):
        raise ValueError("a storage without a name")
    return key


def _text(value: Any) -> Any:
    return value.decode("ascii") if isinstance(value, bytes) else value


def _part(storage: Storage, offset: Any, numel: Any) -> Storage:
    """A stretch of a storage, which shares its memory."""
    if not all(type(n) is int and n >= 0 for n in (offset, numel)):
        raise ValueError("a part of a storage without a size")
    if offset + numel > storage.numel:
        raise ValueError("a part of a storage reaches outside it")
    assert storage.data is not None
    width = storage.dtype.itemsize
    data = memoryview(storage.data)[offset * width : (offset + numel) * width]
    return Storage(storage.dtype, numel, data)


def is_tar(file: BinaryIO) -> bool:
    """Whether a file begins with a header of tar; the position stays at its start."""
    block = file.read(_BLOCK)
    file.seek(0)
    return _size(block) is not None


def read_tar(file: BinaryIO, length: int, *, strict: bool = False) -> Any:
    """Reads the layout of PyTorch 0.1.

    Args:
        file: At its start.
        length: Of the file in bytes.
        strict: As in `vice.models.safe_unpickle.DataUnpickler`.

    Raises:
        ValueError: Not this layout, or not whole.
    """
    parts = _members(file, length)
    missing = [name for name in ("storages", "tensors", "pickle") if name not in parts]
    if missing:
        raise ValueError(f"it is a tar archive without a file '{missing[0]}'; unpack it")
    objects: dict[Any, Any] = {}
    _read_storages(*parts["storages"], objects, length)
    _read_tensors(*parts["tensors"], objects)

    def find(pid: Any) -> Any:
        return pid[0] if isinstance(pid, tuple) else objects[int(pid)]

    stream, size = parts["pickle"]
    return _load(_Bounded(stream, size), find=find, strict=strict)


def _members(file: BinaryIO, length: int) -> dict[str, tuple[BinaryIO, int]]:
    """The plain files of a tar archive; Python's module follows headers without an end."""
    members: dict[str, tuple[BinaryIO, int]] = {}
    while (size := _size(block := file.read(_BLOCK))) is not None:
        if size > length - file.tell():
            raise ValueError("it is cut short")
        name = block[:100].rstrip(b"\0").decode("utf-8", "replace")
        if name in members:
            raise ValueError("it is a tar archive with a name twice")
        padded = file.read(-(-size // _BLOCK) * _BLOCK)
        if block[156:157] in (b"0", b"\0"):
            members[name] = io.BytesIO(padded[:size]), size
    return members


def _size(block: bytes) -> int | None:
    """Length of the member behind a header of tar; None where it is none."""
    if len(block) < _BLOCK or not block.strip(b"\0"):
        return None
    try:
        size, checksum = (int(block[a:b].strip(b" \0"), 8) for a, b in ((124, 136), (148, 156)))
    except ValueError:
        return None
    return size if checksum == sum(block[:148] + b" " * 8 + block[156:]) and size >= 0 else None


def _read_storages(stream: BinaryIO, size: int, objects: dict[Any, Any], length: int) -> None:
    bounded, storages = _Bounded(stream, size), _Storages(length)
    for _ in range(_count(_load(bounded), size)):
        key, _, dtype = _load(bounded)
        storage = storages.make(key, dtype, bounded.number())
        assert isinstance(storage.data, bytearray)
        bounded.fill(storage.data)
        objects[_plain(key)] = storage
    for target, root, offset, numel in _load(bounded):
        objects[_plain(target)] = _part(_storage(objects.get(_plain(root))), offset, numel)


def _read_tensors(stream: BinaryIO, size: int, objects: dict[Any, Any]) -> None:
    bounded = _Bounded(stream, size)
    for _ in range(_count(_load(bounded), size)):
        key, storage, _ = _load(bounded)
        axes = _count(bounded.number() & 0xFFFFFFFF, size)
        shape = [bounded.number() for _ in range(axes)]
        strides = [bounded.number() for _ in range(axes)]
        root = _storage(objects.get(_plain(storage)))
        objects[_plain(key)] = root.view(bounded.number(), shape, strides)


def _storage(value: Any) -> Storage:
    if not isinstance(value, Storage):
        raise ValueError("a tensor without a storage")
    return value


def _count(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError("a number of entries that cannot be")
    return value
