"""Data-loader faults: why a worker is gone, most often because memory has run out."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import queues
from typing import Any

from vice.errors import OptionError, UserError

_GONE = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is killed by signal: (?P<signal>[^.\n]+)"
    r"|exited unexpectedly)"
)
#: What PyTorch says when it cannot hand a batch over.
_NO_SHARED_MEMORY = re.compile(
    r"unable to (?:write to|open|mmap|allocate|resize)\b.*(?:shared memory|/torch_|torch_\d)"
    r"|unable to mmap \d+ bytes"
    r"|insufficient shared memory"
    r"|cannot allocate memory",
    re.I,
)
_FILES = re.compile(r"Too many open files|received \d+ items of ancdata")
#: Where PyTorch fetches a batch from the process that has loaded it.
_FETCHING = ("torch/multiprocessing/reductions.py", "multiprocessing/resource_sharer.py")
#: Where Python makes the semaphores of a queue, which lie in /dev/shm.
_SEMAPHORES = ("multiprocessing/synchronize.py",)
_FEWER = (
    "use fewer data loading processes ({num_workers}) or smaller batches, or give the job more "
)
_REMEDY = f"{_FEWER}memory and a larger /dev/shm (docker run --shm-size=8g)"
#: What else may be the cause where no signal is named, and the remedy for all of it.
_OR_FILES = (
    "memory, /dev/shm or open files run out",
    f"{_FEWER}memory, a larger /dev/shm (docker run --shm-size=8g) or more open files "
    "(ulimit -n 65536)",
)


def loader_fault(error: BaseException) -> OptionError | None:
    """What to tell of an error that comes of a lost data loading process: one line with the remedy.

    Args:
        error: What reached the process that waits for the data.

    Returns:
        None for all other errors.
    """
    # Told already: its line holds the words that are looked for here.
    if isinstance(error, UserError):
        return None
    text = str(error)
    if gone := _GONE.search(text):
        signal = gone["signal"]
        return _lost(signal.strip()) if signal else _lost("an unexpected end", *_OR_FILES)
    if _FILES.search(text):
        return OptionError(
            "data loading ran out of open files ({what}): raise the limit (ulimit -n 65536), or "
            + _REMEDY,
            what=_first_line(text),
        )
    no_memory = isinstance(error, OSError) and (
        error.errno == errno.ENOMEM or _comes_from(error, _SEMAPHORES)
    )
    if _NO_SHARED_MEMORY.search(text) or no_memory:
        text = _first_line(text)
        return OptionError("memory or /dev/shm has run out ({what}): " + _REMEDY, what=text)
    if isinstance(error, (OSError, EOFError)) and _comes_from(error, _FETCHING):
        return _lost(type(error).__name__, *_OR_FILES)
    return None


def _lost(
    how: str, causes: str = "memory or /dev/shm runs out", remedy: str = _REMEDY
) -> OptionError:
    return OptionError(
        f"a data loading process was lost ({{how}}), as happens when {causes}: {remedy}", how=how
    )


def answer_what_cannot_be_sent() -> None:
    """Lets the process that waits for a batch learn why this one cannot hand it over.

    Feeder threads: a queue drops what it cannot send (no open file or memory is left, or nothing
    of its kind can be pickled), and the other process would wait for it for ever. Where a batch was
    sent, and its memory cannot be handed over any more, this process ends. To be called in a data
    loading process before its first batch.
    """
    queues.Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]
    sys.excepthook = _end_unserved


def _end_unserved(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Ends a process that cannot be asked for open files, as it has too many itself.

    Python's thread that hands them over would be asked again at once, and say so, without end.
    """
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        frames = traceback.extract_tb(trace)
        if any(frame.filename.endswith(_FETCHING) for frame in frames):
            os._exit(1)
    sys.__excepthook__(kind, error, trace)


def _send_error(queue: Any, error: Exception, unsent: Any) -> None:
    # Start-up: command lines that only answer do not wait for PyTorch.
    from torch._utils import ExceptionWrapper

    index, found = unsent
    if isinstance(found, ExceptionWrapper):
        # Not even an error can be sent; that a process is gone will be noticed.
        os._exit(1)
    told = ExceptionWrapper(
        (type(error), error, error.__traceback__), where="in a data loading process"
    )
    queue.put((index, told))


@contextmanager
def half_built_loaders_are_silent() -> Iterator[None]:
    """Keeps PyTorch from complaining in the block about loaders of which only a part was made."""
    before = sys.unraisablehook

    def tell(what: Any) -> None:
        if "DataLoaderIter.__del__" not in getattr(what.object, "__qualname__", ""):
            before(what)

    sys.unraisablehook = tell
    try:
        yield
    finally:
        sys.unraisablehook = before


def _comes_from(error: BaseException, files: tuple[str, ...]) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.filename.endswith(files) for frame in frames)


def _first_line(text: str) -> str:
    telling = [_NO_SHARED_MEMORY, _FILES]
    lines = [line for line in text.splitlines() if any(each.search(line) for each in telling)]
    return " ".join((lines or text.splitlines() or [""])[0].split())
