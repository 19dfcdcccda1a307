"""Many vectors, kept in memory or on the disk, and read back in parts."""

from __future__ import annotations

import bisect
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from vice.errors import OptionError
from vice.runtime.files import disk_errors

logger = logging.getLogger(__name__)

#: Vectors that are read at a time.
PART = 2**15


class InMemory:
    """Vectors on the device that they came on."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._starts: list[int] = [0]

    def __len__(self) -> int:
        return self._starts[-1]

    def append(self, vectors: Tensor) -> None:
        """Keeps a copy: vectors are often a look at something larger."""
        self._parts.append(vectors.clone(memory_format=torch.contiguous_format))
        self._starts.append(len(self) + len(vectors))

    def point(self, number: int) -> Tensor:
        """One of them."""
        part = bisect.bisect_right(self._starts, number) - 1
        return self._parts[part][number - self._starts[part]]

    def parts(self) -> Iterator[Tensor]:
        """All of them, few at a time."""
        gathered, size = list[Tensor](), 0
        for part in self._parts:
            gathered.append(part)
            size += len(part)
            if size >= PART:
                yield torch.cat(gathered)
                gathered, size = [], 0
        if gathered:
            yield torch.cat(gathered)


class OnDisk:
    """Vectors in a file without a name, which is gone with this process.

    Args:
        folder: Where.
        dim: D.
        times: How many times vectors are appended at most; said, with the space that it takes,
            before the first ones are written.
    """

    def __init__(self, folder: str | Path, dim: int, times: int) -> None:
        self.folder, self.dim, self.times = Path(folder), dim, times
        self._file: IO[bytes] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, vectors: Tensor) -> None:
        """Writes them.

        Raises:
            UserError: There is too little space for all that are to come, or none any more.
        """
        with disk_errors(self.folder, any_os_error=True):
            if self._file is None:
                self._announce(len(vectors))
                self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115
            self._file.seek(0, os.SEEK_END)
            self._file.write(vectors.contiguous().cpu().numpy().tobytes())
        self._count += len(vectors)

    def _announce(self, vectors: int) -> None:
        share = self.times * vectors * self.dim * 4
        free = shutil.disk_usage(self.folder).free
        logger.info(
            "%d vectors of %d dimensions are kept on the disk, %.1f GiB in %s",
            self.times * vectors, self.dim, share / 2**30, self.folder,
        )  # fmt: skip
        if share > free:
            raise OptionError(
                "{count} vectors take {needed} GiB in {folder}, where {free} GiB are free: free "
                "some space, or start from a sample ({init_pixels})",
                count=self.times * vectors,
                needed=f"{share / 2**30:.1f}",
                folder=self.folder,
                free=f"{free / 2**30:.1f}",
            )

    def point(self, number: int) -> Tensor:
        """One of them."""
        return self._read(number, 1)[0]

    def parts(self) -> Iterator[Tensor]:
        """All of them, few at a time."""
        for start in range(0, self._count, PART):
            yield self._read(start, min(PART, self._count - start))

    def _read(self, start: int, count: int) -> Tensor:
        if self._file is None:
            raise IndexError(start)
        self._file.seek(start * self.dim * 4)
        data = bytearray(self._file.read(count * self.dim * 4))
        return torch.frombuffer(data, dtype=torch.float32).view(-1, self.dim)
