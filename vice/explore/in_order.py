"""Work on many files beside a model: read ahead, written behind, in order and in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

#: Threads beside the model, if nothing is said.
WORKERS = 2
Item = TypeVar("Item")
Read = TypeVar("Read")
Made = TypeVar("Made")
Done = TypeVar("Done")


def in_order(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    make: Callable[[Read], Made],
    write: Callable[[Made], Done],
    *,
    workers: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Done]:
    """Reads, makes and writes each item; what is made is made one after the other, by the caller.

    Args:
        items: What is worked on.
        read: Called by other threads, for at most ``workers`` items that are not made yet.
        make: Called by this thread.
        write: Called by other threads, for at most ``workers + 1`` items that were made.
        workers: How many other threads there are; 0: none, one thing after the other.
        stopped: Whether no further item is to be made; those that were made are written still.

    Yields:
        What ``write`` returns, in the order of the items; of the first one before the second is
        made, so that whoever looks at it can end all.

    Raises:
        Exception: What any of the three raises; what is being written then is written to its end.
    """
    if not workers:
        for item in items:
            if stopped():
                return
            yield write(make(read(item)))
        return
    rest = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        ahead = deque(pool.submit(read, item) for item in islice(rest, workers))
        behind: deque[Future[Done]] = deque()
        begun = False
        try:
            while ahead and not stopped():
                given = ahead.popleft().result()
                ahead.extend(pool.submit(read, item) for item in islice(rest, 1))
                behind.append(pool.submit(write, make(given)))
                while len(behind) > (workers if begun else 0):
                    yield behind.popleft().result()
                    begun = True
            while behind:
                yield behind.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
