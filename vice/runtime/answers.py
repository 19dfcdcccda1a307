"""What a command was called for, on standard output: it is all there, or the command has failed.

Only the standard library is imported here: ``vice --help`` needs no more.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from vice.errors import UserError
from vice.runtime import interrupts


def answer(text: str) -> None:
    """Prints what a command was called for, and nothing else keeps.

    Raises:
        UserError: Standard output does not take it, such as a file on a full disk.
        OSError: Nobody reads it any more.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        if interrupts.is_unread(sys.stdout):
            raise
        raise UserError(
            f"cannot write to standard output: {error.strerror or error}; free some space, or "
            "send it elsewhere"
        ) from error


def say(message: str) -> None:
    """Writes a line to standard error; one that is lost changes neither work nor exit status."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
