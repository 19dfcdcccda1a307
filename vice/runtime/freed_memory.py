"""Memory that a process has freed: kept for what it asks for next, or given back to the system."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any

#: What glibc's `mallopt` calls them: bytes free at the end of its heap that it gives back, and how
#: many blocks at a time it may take of the system apart from its heap.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
#: The greatest number that it takes.
_MOST = 2**31 - 1
#: Where a user says how memory is to be kept.
_SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory() -> bool:
    """Lets the C library keep what is freed (glibc), unless the environment says otherwise.

    Page faults: maps of a network are large, so each would be taken of the system, page by page,
    by the first operation that writes to it, and given back by the next one; in training that is
    a tenth of a step and more on a CPU. A process then holds the most memory that it has needed.
    Processes that are forked inherit it.

    Returns:
        Whether it is kept.
    """
    if any(name in os.environ for name in _SAID):
        return False
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    change = _of_libc("mallopt")
    if change is None:
        return False
    return all([change(_MMAP_MAX, 0), change(_TRIM_THRESHOLD, _MOST)])


def give_back() -> None:
    """Gives memory that was freed back to the system, where the C library keeps it (glibc).

    Maps of tiles are large and of many sizes: what is kept of one does not fit the next.
    """
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


@cache
def _of_libc(name: str) -> Any:
    """A function of the C library; None where it has no such function."""
    try:
        return getattr(ctypes.CDLL(None), name)
    # Other systems: no such function, or no such library.
    except (AttributeError, OSError, TypeError):
        return None
