"""Append-only file of a running job, which a full disk does not make fail."""

from __future__ import annotations

import logging
from pathlib import Path

from vice.errors import UserError
from vice.runtime.files import append, disk_reason, replace_atomically

logger = logging.getLogger(__name__)
#: Bytes that may wait for a disk to take them again; more are lost, and counted.
MOST_WAITING = 64 * 2**20


class PatientFile:
    """Adds to the end of a file; what the disk does not take waits and is tried again.

    A failure is logged once, and so is its end.

    Args:
        path: The file; its folder is made with it.
        begin: Content that replaces what is there, written before anything is added.
    """

    def __init__(self, path: Path, begin: bytes | None = None) -> None:
        self.path = path
        self._begin = begin
        self._waiting: list[bytes] = []
        self._size = 0
        self._failed, self._lost = False, 0

    def add(self, data: bytes) -> None:
        """Takes a piece that is written with the next flush, whole or not at all."""
        if self._size + len(data) > MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append(data)
        self._size += len(data)

    @property
    def waiting(self) -> int:
        """Bytes that are not written yet."""
        return self._size

    def flush(self) -> None:
        """Tries to write everything."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._begin is not None:
                replace_atomically(self.path, self._write_begin)
                self._begin = None
            append(self.path, b"".join(self._waiting))
        except (OSError, UserError) as error:
            if not self._failed:
                reason = disk_reason(error) or error
                logger.error("cannot write %s: %s; training goes on and tries again",
                             self.path, reason)  # fmt: skip
            self._failed = True
            return
        if self._failed:
            logger.info("%s is written again; %d records are lost", self.path, self._lost)
        self._waiting, self._size = [], 0
        self._failed, self._lost = False, 0

    def _write_begin(self, new: str) -> None:
        Path(new).write_bytes(self._begin or b"")


class PatientStream:
    """A `PatientFile` as a text stream that is written and closed.

    Args:
        path: The file.
        buffering: Bytes that may wait for a flush.
    """

    def __init__(self, path: Path, buffering: int = 10_240) -> None:
        self._file = PatientFile(path)
        self._buffering = buffering

    def write(self, text: str) -> None:
        """Adds text."""
        self._file.add(text.encode("utf-8", "backslashreplace"))
        if self._file.waiting > self._buffering:
            self._file.flush()

    def flush(self) -> None:
        """Tries to write everything."""
        self._file.flush()

    close = flush
