"""The one exception that means "the input is wrong, and here is the remedy"."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input from the user: a path, a key, a file or a value.

    The message names what is wrong and what to do about it. Command lines print it as one line
    and exit with status 2; a traceback would only bury it.
    """
