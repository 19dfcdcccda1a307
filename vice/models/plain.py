"""Networks as PyTorch computes them, to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
_inside = 0


@contextmanager
def plain() -> Iterator[None]:
    """Has networks computed, in all threads, module by module as PyTorch does it.

    Outside of it batch normalization may be folded into convolutions (`vice.models.folding`), and
    borders are put around maps in low precision (`vice.models.padding`).
    """
    global _inside
    with _lock:
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1


def is_plain() -> bool:
    """Whether `plain` is in force."""
    return _inside > 0
