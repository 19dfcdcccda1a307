"""Progress with an estimate of the time left, through logging."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Seconds between two lines: a share of the time so far, up to the greatest. Long work says less
#: and less often how far it is.
SHARE, MOST = 0.1, 600.0


def progress(
    items: Iterable[T], total: int | None, label: str, *, every_seconds: float = 5.0
) -> Iterator[T]:
    """Yields the items and logs how far it has come, at first every few seconds.

    Args:
        items: What to iterate over.
        total: How many items there are, or None when nobody knows (then no ETA is given).
        label: What is being done, for example ``"embedding train images"``.
        every_seconds: Least time between two lines, in seconds; it grows to a tenth of the time so
            far, and at most to ten minutes.

    Yields:
        The items, unchanged and in order.
    """
    start = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= max(every_seconds, min(SHARE * (now - start), MOST)):
            last = now
            logger.info("%s: %s", label, _describe(done, total, now - start))
    logger.info("%s: %d done in %s", label, done, clock(time.monotonic() - start))


def _describe(done: int, total: int | None, elapsed: float) -> str:
    if not total:
        return f"{done} done, {clock(elapsed)} so far"
    remaining = elapsed / done * max(total - done, 0)
    return f"{done}/{total} ({100 * done / total:.0f} %), {clock(remaining)} left"


def clock(seconds: float) -> str:
    """A time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
