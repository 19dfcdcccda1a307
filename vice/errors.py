"""The one exception that means "the input is wrong, and here is the remedy"."""

from __future__ import annotations

import re

from vice.names import printable
from vice.redaction import redact_text


class UserError(ValueError):
    """Bad input from the user: a path, a key, a file or a value.

    The message names what is wrong and what to do about it. Command lines print it as one line
    and exit with status 2; a traceback would only bury it.
    """


def one_line(error: Exception) -> str:
    """The message on one line, without secrets and a data loader's worker's traceback."""
    text = str(error)
    if "Original Traceback" in text:
        text = text.rpartition("Error: ")[2]
    return printable(redact_text(re.sub(r"\s*[\r\n]\s*", " ", text.strip())))


#: Most characters of what a file itself brings into a message.
_SHOWN = 200


def brief(error: BaseException) -> str:
    """What an error says, in one line that the file cannot make long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
