"""The one exception that means "the input is wrong, and here is the remedy"."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input from the user: a path, a key, a file or a value.

    The message names what is wrong and what to do about it. Command lines print it as one line
    and exit with status 2; a traceback would only bury it.
    """


def one_line(error: Exception) -> str:
    """The message on one line, without the traceback that a data loader's worker puts into it."""
    text = str(error)
    if "Original Traceback" in text:
        text = text.rpartition("Error: ")[2]
    return " ".join(text.split())
