"""The one exception that means "the input is wrong, and here is the remedy"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vice.names import printable
from vice.redaction import redact_text


class UserError(ValueError):
    """Bad input from the user: a path, a key, a file or a value.

    The message names what is wrong and what to do about it. Command lines print it as one line
    and exit with status 2; a traceback would only bury it.
    """


class MissingPart(ModuleNotFoundError, UserError):
    """A part that is not installed; the message says which command installs it."""


#: The name of an argument in braces, after its owner where the name alone would say too little, and
#: with the value that it is to have: ``{num_prototypes}``, ``{Superpixels.folder}``.
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w.]*(?:=\w+)?)\}")


def placeholders(text: str) -> list[str]:
    """The placeholders of a text, without their braces."""
    return _PLACEHOLDER.findall(text)


def spell(text: str, keys: Mapping[str, str], values: Mapping[str, object] | None = None) -> str:
    """A text with its placeholders filled in.

    Args:
        text: Names arguments by placeholders: ``"use fewer prototypes ({num_prototypes})"``.
        keys: What the reader sets in order to set an argument, for example
            ``{"num_prototypes": "--prototypes"}``. Others are named as in
            Python.
        values: For placeholders that stand for a value; nothing in a value is a placeholder.

    Returns:
        The text, for example ``"use fewer prototypes (--prototypes)"``.
    """
    given = values or {}

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        return str(given[name]) if name in given else keys.get(name, name.rpartition(".")[2])

    return _PLACEHOLDER.sub(fill, text)


class OptionError(UserError):
    """Bad input whose remedy is another value of an argument.

    The core names its own arguments. A plugin whose users set them under other names shows its
    own with `spelled`.

    Args:
        text: As in `spell`.
        **values: As in `spell`.
    """

    def __init__(self, text: str, /, **values: object) -> None:
        super().__init__(text)
        # What another process has said of its error is no template any more.
        self.final = "Original Traceback" in text
        self.values = values

    def __str__(self) -> str:
        return self.spelled({})

    def spelled(self, keys: Mapping[str, str]) -> str:
        """The message with the names that a reader sets arguments under; see `spell`."""
        text = str(self.args[0])
        return text if self.final else spell(text, keys, self.values)


def one_line(error: Exception) -> str:
    """The message on one line, without secrets and a data loader's worker's traceback."""
    text = str(error)
    if "Original Traceback" in text:
        text = text.rpartition("Error: ")[2]
    return printable(redact_text(re.sub(r"\s*[\r\n]\s*", " ", text.strip())))


@contextmanager
def exits_are_errors(whose: str) -> Iterator[None]:
    """A block that calls somebody else's code, which must not end the process in silence.

    Args:
        whose: What is called, for the message.

    Raises:
        UserError: It has called `sys.exit`; with any status, since nothing has come of it.
    """
    try:
        yield
    except SystemExit as error:
        # Stops of our own are classes of their own.
        if type(error) is not SystemExit:
            raise
        raise UserError(exit_message(whose, error)) from error


@contextmanager
def noted(text: str) -> Iterator[None]:
    """A block in which an error that is no `UserError` gets a line below its traceback.

    Args:
        text: What was being done when somebody else's code failed.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Python 3.10 has no notes.
        if hasattr(error, "add_note"):
            error.add_note(text)
        raise


def exit_message(whose: str, error: SystemExit) -> str:
    """What to say of code that has called `sys.exit`."""
    status = "" if error.code is None else repr(error.code)[:_SHOWN]
    return (
        f"{whose} has called sys.exit({status}): what is called here must return, or raise what "
        "is wrong"
    )


#: Most characters of what a file itself brings into a message.
_SHOWN = 200


def brief(error: BaseException) -> str:
    """What an error says, in one line that the file cannot make long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
