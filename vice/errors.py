"""The one exception that means "the input is wrong, and here is the remedy"."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input from the user: a path, a key, a file or a value.

    The message names what is wrong and what to do about it. Command lines print it as one line
    and exit with status 2; a traceback would only bury it.
    """


def one_line(error: Exception) -> str:
    """The message on one line, without the traceback that a data loader's worker puts into it.

    Spaces within a line stay, since the message may hold a path or a command.
    """
    text = str(error)
    if "Original Traceback" in text:
        text = text.rpartition("Error: ")[2]
    return " ".join(line.strip() for line in text.splitlines() if line.strip())
