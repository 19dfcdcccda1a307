"""Arrays that are made once and kept for all processes of a run, in a bounded file."""

from __future__ import annotations

import logging
import os
import struct
import tempfile
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from vice.runtime.files import disk_reason

logger = logging.getLogger(__name__)

#: Types that are kept, by their number in an entry.
_TYPES = tuple(np.dtype(name) for name in ("uint8", "uint16", "int32", "bool"))
#: What is said of an array, written after it: number of its type and, beyond it, its shape.
_ENTRY = struct.Struct("=i3i")


class KeptArrays:
    """An array of each kind for each of some items, in one file without a name.

    Each array has a place of its own, whose bytes take no space before they are written, so that
    processes that come to the same one at the same time write the same and need not wait for each
    other. An array that is larger than its place is not kept, and neither is one that the disk does
    not take. Processes that are forked share the file; others, which cannot, keep nothing.

    Args:
        items: How many there are.
        kinds: Names, and how large arrays of each are against those of the others.
        most_bytes: Size of all places; with 0 nothing is kept.
    """

    def __init__(self, items: int, kinds: Mapping[str, float], most_bytes: int) -> None:
        total = sum(kinds.values())
        self.items = items
        self.places: dict[str, tuple[int, int]] = {}
        self._entries = {name: items * number * _ENTRY.size for number, name in enumerate(kinds)}
        begin = items * len(kinds) * _ENTRY.size
        for name, share in kinds.items():
            size = int(most_bytes * share / total) // items
            self.places[name] = (begin, size)
            begin += items * size
        self.file: IO[bytes] | None = None
        if most_bytes and hasattr(os, "preadv"):
            try:
                self.file = tempfile.TemporaryFile()  # noqa: SIM115  (as long as this object)
                os.truncate(self.file.fileno(), begin)
            except OSError as error:
                self._give_up(error)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "file": None}

    def get(self, kind: str, item: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of an item, read if it is there, else made and kept.

        Args:
            kind: Which of its arrays.
            item: From 0.
            make: Makes it; the same whoever calls it.

        Returns:
            An array that is the caller's own.
        """
        found = self.read(kind, item)
        return self.write(kind, item, make()) if found is None else found

    def read(self, kind: str, item: int) -> np.ndarray | None:
        """The array of an item; None if it is not kept."""
        if self.file is None:
            return None
        number, *shape = _ENTRY.unpack(
            os.pread(self.file.fileno(), _ENTRY.size, self._entry(kind, item))
        )
        if not number:
            return None
        array = np.empty([side for side in shape if side >= 0], _TYPES[number - 1])
        begin, size = self.places[kind]
        os.preadv(self.file.fileno(), [array.data], begin + item * size)
        return array

    def write(self, kind: str, item: int, array: np.ndarray) -> np.ndarray:
        """Keeps an array if there is room for it; returns it."""
        begin, size = self.places[kind]
        if self.file is None or array.nbytes > size or array.dtype not in _TYPES:
            return array
        shape = [*array.shape, *[-1] * (3 - array.ndim)]
        entry = _ENTRY.pack(_TYPES.index(array.dtype) + 1, *shape)
        try:
            data = np.ascontiguousarray(array).data.cast("B")
            if os.pwrite(self.file.fileno(), data, begin + item * size) == len(data):
                os.pwrite(self.file.fileno(), entry, self._entry(kind, item))
        except OSError as error:
            self._give_up(error)
        return array

    def _entry(self, kind: str, item: int) -> int:
        return self._entries[kind] + item * _ENTRY.size

    def _give_up(self, error: OSError) -> None:
        logger.warning(
            "nothing more is kept in %s (%s): images are read anew each time",
            tempfile.gettempdir(),
            disk_reason(error) or error,
        )
        self.file = None
