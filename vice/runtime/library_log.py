"""What libraries log and warn of, kept from the terminal in a file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vice.runtime.log_streams import guard

#: Below the folder of results, beside what frameworks leave there.
LIBRARIES_NAME = "runner/libraries.log"
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LibraryLog(logging.FileHandler):
    """A file that the first line makes, with its folder.

    Args:
        path: The file; lines are added to it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setFormatter(logging.Formatter(_FORMAT))
        self.setLevel(logging.WARNING)
        self.addFilter(lambda record: not _is_own(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line; where the folder cannot be made, the evaluation itself says why."""
        with suppress(OSError):
            super().emit(record)

    def _open(self) -> Any:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()


def library_log() -> LibraryLog | None:
    """The file that is written to now; None outside of `quiet_libraries`."""
    return next((each for each in logging.root.handlers if isinstance(each, LibraryLog)), None)


@contextmanager
def quiet_libraries(out: Path) -> Iterator[None]:
    """Leaves the terminal to ViCE and to errors; warnings of libraries go to a file.

    Python's own warnings count as those of libraries: ViCE logs its own.

    Args:
        out: The folder of the results, which gets `LIBRARIES_NAME` if there is anything to say.
    """
    terminals = list(logging.root.handlers)
    log = LibraryLog(out / LIBRARIES_NAME)
    guard([log])
    for each in terminals:
        each.addFilter(_is_shown)
    logging.root.addHandler(log)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.root.removeHandler(log)
        for each in terminals:
            each.removeFilter(_is_shown)
        log.close()


def _is_own(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == "vice"


def _is_shown(record: logging.LogRecord) -> bool:
    return _is_own(record) or record.levelno >= logging.ERROR
