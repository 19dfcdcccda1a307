"""File lock that the operating system releases with the process, on any system."""

from __future__ import annotations

import errno
import logging

logger = logging.getLogger(__name__)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:  # all others
    msvcrt = None  # type: ignore[assignment]

#: What systems say of a lock that another process holds.
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
#: The byte that Windows locks, far behind any text in the file.
_PLACE = 2**30
_warned = False


def try_lock(handle: int) -> bool:
    """Locks an open file for this process, unless another process has done so.

    File systems and systems without locks cannot tell; there the user has to take care, and is
    told so once.

    Args:
        handle: Descriptor of a file opened for writing; closing it releases the lock.

    Returns:
        False where another process holds it.
    """
    if fcntl is None and msvcrt is None:
        _warn_once("this system has no locks")
        return True
    try:
        _lock(handle)
    except OSError as error:
        if error.errno in _HELD:
            return False
        _warn_once(f"this file system has no locks ({error.strerror})")
    return True


def _lock(handle: int) -> None:
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import os

    os.lseek(handle, _PLACE, os.SEEK_SET)
    msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]


def _warn_once(reason: str) -> None:
    global _warned
    if not _warned:
        logger.warning("%s: see to it that only one process writes into a folder", reason)
    _warned = True
