"""Folder lock: one writer of a run folder; others wait, say for whom, and give up in time."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from vice.errors import OptionError
from vice.runtime.file_lock import try_lock
from vice.runtime.run_folder import LAUNCH_LOCK_NAME, LOCK_NAME

#: Seconds to wait for a writer that has been killed and is about to be gone.
WAIT = 30.0

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def sole_launcher(
    folder: Path, wait: float = WAIT, stopped: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Holds a run folder for one call of the training command; nobody writes there any more.

    Args:
        folder: Made if it is missing.
        wait: Seconds to wait for another run to end.
        stopped: Asked while it waits; raises what ends that.

    Raises:
        UserError: Another process goes on writing there, or the folder cannot be made.
    """
    with _held(folder, LAUNCH_LOCK_NAME, wait, stopped):
        # Orphans: processes of a run whose launcher was killed may still be about to end.
        with _held(folder, LOCK_NAME, wait, stopped):
            pass
        yield


@contextlib.contextmanager
def sole_writer(folder: Path, wait: float = WAIT) -> Iterator[None]:
    """Holds a folder for one process; whatever ends the process also lets the folder go.

    What holds it already, in the same thread, goes on holding it.

    Args:
        folder: Gets a file ``.lock`` with the process's number and host.
        wait: Seconds to wait for another writer to end; `math.inf` for as long as it takes.

    Raises:
        UserError: Another process goes on writing there.
    """
    with _held(folder, LOCK_NAME, wait):
        yield


@contextlib.contextmanager
def writer_if_free(folder: Path) -> Iterator[bool]:
    """As `sole_writer`, for those who have something else to do than to wait.

    Yields:
        Whether this process holds the folder; another one does if not.
    """
    with _opened(folder, LOCK_NAME) as lock:
        held = try_lock(lock.fileno())
        if held:
            _sign(lock)
        yield held


@contextlib.contextmanager
def _held(
    folder: Path, name: str, wait: float, stopped: Callable[[], None] = lambda: None
) -> Iterator[None]:
    path = os.path.realpath(folder / name)
    mine = _of_this_thread()
    if path in mine:
        # Re-entrant lock: what a caller holds, it holds for what it calls.
        yield
        return
    end = time.monotonic() + wait
    while True:
        with _opened(folder, name) as lock:
            _acquire(lock, folder, end, wait, stopped)
            # Removed meanwhile: whoever comes next locks another file of this name.
            if not _is_there(lock, path):
                continue
            _sign(lock)
            mine.add(path)
            try:
                yield
            finally:
                mine.discard(path)
        return


#: Paths of the locks that a thread holds.
_threads = threading.local()


def _of_this_thread() -> set[str]:
    held: set[str] = _threads.__dict__.setdefault("held", set())
    return held


def _is_there(lock: TextIO, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), os.stat(path))
    except OSError:
        return False


def _sign(lock: TextIO) -> None:
    """Says who holds a lock, for those who wait; a disk that does not take it changes nothing."""
    with contextlib.suppress(OSError):
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()


@contextlib.contextmanager
def _opened(folder: Path, name: str) -> Iterator[TextIO]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / name).open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise OptionError(
            "{sole_writer.folder}={path} cannot be used: {why}; choose another folder",
            path=folder,
            why=error.strerror,
        ) from error
    try:
        yield lock
    finally:
        with contextlib.suppress(OSError):
            lock.close()


def _acquire(
    lock: TextIO, folder: Path, end: float, wait: float, stopped: Callable[[], None]
) -> None:
    warned = False
    while not try_lock(lock.fileno()):
        stopped()
        if time.monotonic() > end:
            raise OptionError(
                "another process is writing into {path}: {holder}. Wait for it, or choose another "
                "folder with {sole_writer.folder}",
                path=folder,
                holder=_holder(lock),
            )
        if not warned:
            warned = True
            limit = "" if wait == math.inf else f" up to {wait:.0f} s"
            logger.warning(
                "waiting%s for %s, which is writing into %s", limit, _holder(lock), folder
            )
        time.sleep(0.2)


def _holder(lock: TextIO) -> str:
    with contextlib.suppress(OSError):
        lock.seek(0)
        return lock.readline().strip() or "a process"
    return "a process"
