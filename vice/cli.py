"""What all command lines share: logging, and one line instead of a traceback for bad input."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import NoReturn

from vice.errors import UserError


def run(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command line and ends the process.

    Exit status: what ``main`` returns (None counts as 0), 2 for a `UserError`, whose message goes
    to stderr as one line ``error: ...``, and 130 after Ctrl-C. Other exceptions are bugs and keep
    their traceback.

    Args:
        main: The command; it parses ``sys.argv`` itself.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        status = main()
    except UserError as error:
        sys.stderr.write(f"error: {_message(error)}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
    sys.exit(status or 0)


def _message(error: UserError) -> str:
    text = str(error)
    # A data loader worker re-raises with its whole traceback inside the message.
    if "Original Traceback" in text:
        text = text.rpartition("Error: ")[2]
    return " ".join(text.split())
