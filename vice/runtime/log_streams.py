"""Log handlers that neither a full disk nor an odd file name can make fail.

Python's handlers print a traceback for every record that they cannot write.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from vice.errors import UserError
from vice.names import printable
from vice.redaction import redact_text
from vice.runtime.files import disk_reason

_LAYOUT = re.compile(r"([\n\t])")


class _PatientRaw(io.FileIO):
    """A file that takes for written what its disk does not take, and says so once."""

    def __init__(self, path: Path, tell: Callable[[str], object]) -> None:
        super().__init__(path, "a")
        self._tell: Callable[[str], object] | None = tell

    def write(self, data: Any, /) -> int:
        """Number of bytes that need not be tried again."""
        try:
            return super().write(data)
        except OSError as error:
            reason = disk_reason(error)
            if not reason:
                raise
            if self._tell is not None:
                tell, self._tell = self._tell, None
                tell(f"cannot write {printable(str(self.name))}: {reason}; training goes on")
            return len(data)


def open_log(path: Path, tell: Callable[[str], object]) -> TextIO:
    """Opens a text file, for what anybody prints, that a full disk does not make fail.

    Args:
        path: The file; text is added to it by lines, as UTF-8.
        tell: Called with one message at the first failure.

    Raises:
        OSError: It cannot be opened.
    """
    buffer = io.BufferedWriter(_PatientRaw(path, tell))
    return io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)


def make_lenient(stream: Any) -> None:
    """Lets a text stream write what its encoding lacks as escapes instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        with contextlib.suppress(ValueError, OSError):
            reconfigure(errors="backslashreplace")


def guard(handlers: Iterable[logging.Handler]) -> None:
    """Makes handlers say once that their file cannot be written, and go on.

    Control characters in messages, which may come from file names, are shown as escapes, and
    secrets are hidden.
    """
    for handler in handlers:
        if getattr(handler, "vice_guarded", False):
            continue
        handler.vice_guarded = True  # type: ignore[attr-defined]
        handler.addFilter(_show_controls)
        stream = getattr(handler, "stream", None)
        make_lenient(stream)
        handler.handleError = _Once(handler)  # type: ignore[method-assign]
        if stream not in (None, sys.stdout, sys.stderr):
            # Exit order: runs before whoever opened the stream closes it.
            atexit.register(_close, stream)


class _Once:
    """Takes the place of ``Handler.handleError``."""

    def __init__(self, handler: logging.Handler) -> None:
        self._class = type(handler)
        self._handler = handler
        self._warned = False

    def __call__(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        reason = disk_reason(error) if error is not None else ""
        if not reason:
            self._class.handleError(self._handler, record)
        elif not self._warned:
            self._warned = True
            name = getattr(getattr(self._handler, "stream", None), "name", "the log")
            with contextlib.suppress(OSError):
                sys.stderr.write(f"cannot write {name}: {reason}; what was begun goes on\n")


def _show_controls(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(map(_show_argument, record.args))
    text = record.getMessage()
    # White space: lines and tabs of the message itself are meant to be so.
    parts = _LAYOUT.split(redact_text(text))
    shown = "".join(part if part in "\n\t" else printable(part) for part in parts)
    if shown != text:
        record.msg, record.args = shown, ()
    return True


def _show_argument(value: object) -> object:
    """What comes from outside stays on one line, so that no name can pass for a record."""
    return printable(str(value)) if isinstance(value, (str, Path, UserError, OSError)) else value


def _close(stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError):
        stream.close()
