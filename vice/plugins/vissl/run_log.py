"""Where the lines of a training go: a few to the terminal, all of them to the run folder."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TextIO

import vissl.engines.train

from vice.cli import CLOCK, LINE
from vice.plugins.vissl.hooks.telling import NAME as TELLING
from vice.runtime import interrupts
from vice.runtime.log_streams import guard, open_log
from vice.runtime.run_folder import LOG_NAME, log_name

#: Warnings of one kind that the terminal shows.
SHOWN = 3
#: As VISSL has it, and whose line it is.
_FORMAT = "%(levelname)s %(asctime)s %(filename)s:%(lineno)4d: {rank}%(message)s"


# Not StreamHandler[TextIO]: Python 3.10 cannot.
class _Terminal(logging.StreamHandler):  # type: ignore[type-arg]
    """Shows what a person at the terminal needs: progress, and ViCE's own warnings."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(logging.Formatter(LINE, CLOCK))
        self.seen: Counter[tuple[str, str]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, or leaves it to the log."""
        if record.name not in (TELLING, "vice.runtime.progress"):
            if record.levelno < logging.WARNING or not record.name.startswith("vice."):
                return
            self.seen[record.name, str(record.msg)] += 1
            if self.seen[record.name, str(record.msg)] > SHOWN:
                return
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """The line; the last of its kind says that there may be more."""
        more = self.seen[record.name, str(record.msg)] == SHOWN
        return super().format(record) + (f" (more like this: {LOG_NAME} only)" if more else "")


@contextmanager
def run_log(folder: Path, rank: int, node: int, *, to_stdout: bool = False) -> Iterator[None]:
    """Sends all that this process writes in the block to the log of its node.

    The log is ``log.txt``, on nodes other than the first ``log_node1.txt`` and so on. The first
    rank also tells the terminal how the training is getting on. Of other ranks the log has
    warnings and what libraries print, so that more ranks do not make more lines.

    Args:
        folder: The run folder.
        rank: This process's number among all.
        node: Number of this machine.
        to_stdout: Whether the terminal's lines go to standard output instead of standard error.
    """
    path = folder / log_name(node)
    with _leading_to(path) as (stdout, stderr):
        terminal = _Terminal(stdout if to_stdout else stderr)
        terminal.setLevel(logging.INFO if rank == 0 else logging.CRITICAL + 1)
        file = logging.StreamHandler(sys.stdout)
        named = _FORMAT.format(rank=f"rank {rank}: " if rank else "")
        file.setFormatter(logging.Formatter(named))
        file.setLevel(logging.WARNING if rank else logging.INFO)
        guard([file, terminal])
        file.handleError = partial(_warn_once, path, set())  # type: ignore[method-assign]
        with _only([file, terminal]):
            yield


def _warn_once(path: Path, warned: set[Path], record: logging.LogRecord) -> None:
    if path not in warned:
        warned.add(path)
        interrupts.write_to_terminal(f"cannot write {path}: {sys.exc_info()[1]}; training goes on")


@contextmanager
def _only(handlers: list[logging.Handler]) -> Iterator[None]:
    """Lets all loggers write to these handlers alone; VISSL's, which would change that, too."""
    root, kept = logging.root, list(logging.root.handlers)
    level, raises = root.level, logging.raiseExceptions
    loggers = [logging.getLogger(name) for name in ("torch", "mmengine", "vice")]
    before_loggers = [(each, list(each.handlers), each.propagate) for each in loggers]
    vissls = vissl.engines.train.setup_logging
    try:
        root.handlers = handlers
        root.setLevel(logging.INFO)
        # Broken pipe: a terminal that is lost must not fill the log with tracebacks.
        logging.raiseExceptions = False
        for each in loggers:
            each.handlers, each.propagate = [], True
        vissl.engines.train.setup_logging = lambda *_, **__: None
        logging.captureWarnings(True)
        yield
    finally:
        logging.captureWarnings(False)
        vissl.engines.train.setup_logging = vissls
        for each, before, propagate in before_loggers:
            each.handlers, each.propagate = before, propagate
        root.handlers, logging.raiseExceptions = kept, raises
        root.setLevel(level)


@contextmanager
def _leading_to(path: Path) -> Iterator[tuple[TextIO, TextIO]]:
    """Lets standard output and error lead into a file, also what libraries in C write there.

    Yields:
        Where they led before.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    before = [os.dup(number) for number in (1, 2)]
    streams = (sys.stdout, sys.stderr)
    log = _log(path)
    try:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
        interrupts.set_terminal(before[1])
        sys.stdout = sys.stderr = log
        yield _opened(before[0]), _opened(before[1])
    finally:
        with suppress(OSError, ValueError):
            log.flush()
        sys.stdout, sys.stderr = streams
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
        interrupts.set_terminal(2)
        for old in before:
            os.close(old)
        with suppress(OSError, ValueError):
            log.close()


def _log(path: Path) -> TextIO:
    try:
        # Disk errors: libraries print as well, and a full disk is none of their business.
        return open_log(path, interrupts.write_to_terminal)
    except OSError as error:
        interrupts.write_to_terminal(
            f"cannot write {path}: {error.strerror}; training goes on without a log"
        )
        return open(os.devnull, "w", encoding="utf-8")


def _opened(descriptor: int) -> TextIO:
    return open(
        descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
