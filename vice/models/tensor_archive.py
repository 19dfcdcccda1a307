"""Zip archives of PyTorch, read record by record without anything of PyTorch's reader.

An archive is only taken if it can be read in one way: no second directory, no bytes that its
directory does not list, no name twice. Programs (TorchScript, `torch.package`) are refused.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import torch

from vice.models.safe_unpickle import DataUnpickler
from vice.models.tensor_storage import Storage

MAGIC = b"PK\x03\x04"
_LOCAL = struct.Struct("<4s5H3L2H")
#: Length of the longest descriptor behind a record.
_SLACK = 24
_BLOCK = 2**20
#: Packed records may grow by this factor of the file's length, and this many bytes.
_GROWTH, _FLOOR = 16, 2**26
_SCRIPT = ("constants.pkl", "bytecode.pkl", "code")
_PACKAGE = ".data/extern_modules"


_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


class IsProgram(ValueError):
    """The file holds code."""


class TensorArchive:
    """A zip archive of `torch.save`.

    Args:
        file: Opened to be read; stays the caller's.

    Raises:
        ValueError: No archive, one that can be read in several ways, or an encrypted one.
        IsProgram: It holds TorchScript or a package.
    """

    def __init__(self, file: BinaryIO) -> None:
        if zipfile.is_zipfile(file) is False:
            raise ValueError("it is cut short: the directory at its end is missing")
        try:
            self._zip = zipfile.ZipFile(file)
        except _BROKEN as error:
            raise ValueError(str(error)) from error
        self._length = file.seek(0, io.SEEK_END)
        self._records = {info.filename: info for info in self._zip.infolist()}
        self._unpacked = 0
        self._check_names()
        self._check_layout(file)

    def check(self) -> None:
        """Reads everything once.

        Raises:
            ValueError: A record has another checksum than it should.
        """
        for name in self._records:
            for _ in self._blocks(name):
                pass

    def read(self, *, strict: bool = False, numbers: bool = True) -> Any:
        """The object in the archive.

        Args:
            strict: Whether classes that are not allowed are an error instead of inert records.
            numbers: False gives tensors without memory, on the device ``meta``.

        Raises:
            ValueError: It is not whole or not what `torch.save` writes.
        """
        prefix = self._prefix()
        # Endianness: only newer files say it.
        order = f"{prefix}byteorder"
        swapped = order in self._records and bytes(self._record(order)) == b"big"
        storages: dict[Any, Storage] = {}

        def find(pid: Any) -> Any:
            kind, dtype, key, _, numel = pid
            if kind != "storage" or not isinstance(dtype, torch.dtype):
                raise ValueError("it refers to what is no storage")
            if type(numel) is not int or numel < 0 or not isinstance(key, str):
                raise ValueError("a storage without a size")
            if (key, dtype) not in storages:
                storages[key, dtype] = self._storage(f"{prefix}data/{key}", dtype, numel, numbers)
                if swapped and storages[key, dtype].data:
                    _swap(storages[key, dtype])
            return storages[key, dtype]

        pickled = io.BytesIO(self._record(f"{prefix}data.pkl"))
        return DataUnpickler(pickled, find, strict=strict).load()

    def _storage(self, name: str, dtype: torch.dtype, numel: int, numbers: bool) -> Storage:
        length = numel * dtype.itemsize
        if name not in self._records or self._records[name].file_size != length:
            raise ValueError(f"record {name} is not {length} bytes long")
        return Storage(dtype, numel, self._record(name) if numbers else None)

    def _prefix(self) -> str:
        prefixes = [name for name in self._records if name.endswith("/data.pkl")]
        prefixes = [name.removesuffix("data.pkl") for name in prefixes if name.count("/") == 1]
        if len(prefixes) != 1:
            held = ", ".join(sorted(self._records)[:3]) or "nothing"
            if self._records and all(name.endswith(".npy") for name in self._records):
                raise ValueError(f"it holds NumPy arrays ({held}); save them as tensors")
            raise ValueError(f"it is an archive of {held}; unpack it, if a checkpoint is in it")
        return prefixes[0]

    def _check_names(self) -> None:
        counts = Counter(info.filename for info in self._zip.infolist())
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"record {twice[0]} is there twice")
        inside = [name.partition("/")[2] for name in self._records]
        if any(name.partition("/")[0] in _SCRIPT for name in inside):
            raise IsProgram("it is a TorchScript archive")
        if _PACKAGE in inside:
            raise IsProgram("it is a package of torch.package")

    def _check_layout(self, file: BinaryIO) -> None:
        """Each byte belongs to one record or to the only directory."""
        end = 0
        for info in sorted(self._records.values(), key=lambda record: record.header_offset):
            if info.flag_bits & 1:
                raise ValueError(f"record {info.filename} is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"record {info.filename} is packed in a way PyTorch does not")
            if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
                raise ValueError(f"record {info.filename} has two lengths")
            if not 0 <= info.header_offset - end <= _SLACK or (not end and info.header_offset):
                raise ValueError("its records overlap, or other bytes lie between them")
            file.seek(info.header_offset)
            header = file.read(_LOCAL.size)
            if len(header) < _LOCAL.size:
                raise ValueError("it is cut short")
            *_, name, extra = _LOCAL.unpack(header)
            end = info.header_offset + _LOCAL.size + name + extra + info.compress_size
        if not 0 <= self._zip.start_dir - end <= _SLACK:
            raise ValueError("its directory is not where its records end")

    def _record(self, name: str) -> bytearray:
        size = self._records[name].file_size
        if self._records[name].compress_type == zipfile.ZIP_DEFLATED:
            self._unpacked += size
            if self._unpacked > _GROWTH * self._length + _FLOOR:
                raise ValueError(f"record {name} would unpack to {size} bytes")
        data, at = bytearray(size), 0
        for block in self._blocks(name):
            data[at : at + len(block)] = block
            at += len(block)
        if at != size:
            raise ValueError(f"record {name} is cut short")
        return data

    def _blocks(self, name: str) -> Iterator[bytes]:
        """A record piece by piece; its checksum is verified at its end."""
        try:
            with self._zip.open(self._records[name]) as stream:
                while block := stream.read(_BLOCK):
                    yield block
        except _BROKEN as error:
            wrong = f"record {name} has another checksum" if "CRC" in str(error) else str(error)
            raise ValueError(wrong) from error


def _swap(storage: Storage) -> None:
    """Turns big-endian numbers, in place."""
    import numpy as np

    width = storage.dtype.itemsize // (2 if storage.dtype.is_complex else 1)
    if width > 1:
        np.frombuffer(storage.data or b"", f"u{width}").byteswap(inplace=True)
