"""Networks as PyTorch computes them, to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_plain = False


@contextmanager
def plain() -> Iterator[None]:
    """Has networks computed, in all threads, module by module as PyTorch does it.

    Outside of it batch normalization may be folded into convolutions (`vice.models.folding`), and
    borders are put around maps in low precision (`vice.models.padding`).
    """
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def is_plain() -> bool:
    """Whether `plain` is in force."""
    return _plain
