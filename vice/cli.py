"""What command lines share: logging, one line for bad input, the options of an evaluation."""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TextIO

from vice.errors import OptionError, UserError, exit_message, one_line
from vice.nearest import did_you_mean
from vice.runtime import interrupts
from vice.runtime.answers import answer, say
from vice.runtime.files import disk_errors
from vice.runtime.launch import read_environment
from vice.runtime.loader_faults import half_built_loaders_are_silent
from vice.runtime.log_streams import guard, make_lenient
from vice.runtime.preemption import SIGNALS, STOPPED, Preempted
from vice.runtime.threads import keep_to_quota, wait_asleep

#: How a line on the terminal begins.
LINE, CLOCK = "%(asctime)s %(message)s", "%H:%M:%S"
#: Arguments that messages name, and the options that stand for them.
OPTIONS = {"num_workers": "--workers", "sole_writer.folder": "--out"}
#: What a command that is stopped leaves where it writes its results at the end, as for `run`.
RESULTS_KEPT = "earlier results are as they were; the same command begins again"
#: For `Parser`: where options of a training are given, none of which is one of its own command.
IN_CONFIG = "options of a config are KEY=VALUE: vice train CONFIG --options lists them"
#: What argparse says of a value that is none of those that an option takes.
_CHOICE = re.compile(r"invalid choice: '(.*)' \(choose from (.*)\)")
#: Modules that end the process themselves.
_OURS = ("vice", "argparse", "__main__")
#: How the command was called, if not by its script: ``"vice score"``.
program: str | None = None


def run(main: Callable[[], int | None], *, joins: bool = False, kept: str = "") -> NoReturn:
    """Runs a command line and ends the process.

    Exit status: what ``main`` returns (None counts as 0), 2 for a `UserError`, whose message goes
    to stderr as one line ``error: ...``, and likewise where somebody else's code calls `sys.exit`,
    75 for a run that was asked to stop and has saved itself, 130 after Ctrl-C and 143 after
    SIGTERM, and 141 if nobody reads the output to its end. Other exceptions are bugs and keep their
    traceback.

    Args:
        main: The command; it parses ``sys.argv`` itself.
        joins: Whether processes that torchrun or srun started do one job together. All but the
            first then say nothing but errors.
        kept: What a command that is stopped leaves, and whether the same one goes on; said then.
    """
    wait_asleep()
    keep_to_quota()
    set_up_log()
    try:
        with interrupts.interruptible(), half_built_loaders_are_silent():
            status = _status(main, joins, kept)
    finally:
        interrupts.give_up_unread()
    interrupts.keep_status(status, SIGNALS)
    sys.exit(status)


def set_up_log(stream: TextIO | None = None) -> None:
    """Lets log lines go to a stream as short lines with the time of the day.

    Args:
        stream: None for standard error.
    """
    handler = logging.StreamHandler(stream)
    # Frameworks that use the root's own name tell what only their developers need.
    handler.addFilter(lambda line: line.name != "root" or line.levelno >= logging.WARNING)
    logging.basicConfig(level=logging.INFO, format=LINE, datefmt=CLOCK, handlers=[handler])
    guard(logging.root.handlers)
    for each in (sys.stdout, sys.stderr):
        make_lenient(each)
    # FAISS tells which of its builds it tries, with tracebacks of those that do not fit the CPU,
    # and PyTorch how it got on, if its import is interrupted before it has set this itself.
    for name in ("faiss.loader", "torch"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _status(main: Callable[[], int | None], joins: bool, kept: str) -> int:
    first = True
    try:
        first = not joins or is_first()
        if not first:
            _be_quiet()
        _check_working_directory()
        with disk_errors("a file"):
            return _unless_unread(main)
    except Preempted as stop:
        if first:
            say(stop.message)
        return STOPPED
    except SystemExit as raised:
        place = _called_by(raised)
        if not place:
            raise
        say(f"error: {one_line(UserError(exit_message(place, raised)))}")
        return 2
    except (KeyboardInterrupt, Exception) as raised:
        # C extensions, such as NumPy's in its import, make another exception of an interrupt.
        if isinstance(raised, KeyboardInterrupt) or interrupts.has_come():
            interrupts.end_helpers()
            said = str(raised) if isinstance(raised, KeyboardInterrupt) else ""
            if first:
                say(said or interrupts.MESSAGE + (f": {kept}" if kept else ""))
            return interrupts.status()
        if not isinstance(raised, UserError):
            raise
        text = raised.spelled(OPTIONS) if isinstance(raised, OptionError) else str(raised)
        say(f"error: {one_line(UserError(text))}")
        return 2


def _called_by(error: SystemExit) -> str:
    """Where somebody else's code has called `sys.exit`; empty where a command or a parser has."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    name = str(frame.f_globals.get("__name__"))
    if type(error) is not SystemExit or name.partition(".")[0] in _OURS:
        return ""
    return f"{frame.f_code.co_filename}, line {line},"


def _check_working_directory() -> None:
    # Shared libraries that are loaded later end the process where there is none.
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the working directory cannot be used ({error.strerror}): change to one that exists"
        ) from error


def _unless_unread(main: Callable[[], int | None]) -> int:
    """The command's status, or that of one whose reader has seen enough, as `| head` has."""
    try:
        return main() or 0
    except OSError as error:
        kind = error.errno in (errno.EPIPE, errno.EIO)
        if kind and any(map(interrupts.is_unread, (sys.stdout, sys.stderr))):
            return interrupts.UNREAD
        raise


def show(text: str) -> None:
    """Prints what a command has come to; where that is lost, it was done all the same.

    What it was called for, and no file holds, is an `answer`.
    """
    with contextlib.suppress(OSError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def is_first() -> bool:
    """Whether this process is on its own, or the first of those that were started with it."""
    process = read_environment(os.environ)
    return process is None or process.rank == 0


def _be_quiet() -> None:
    logging.getLogger().setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it stays for the rest of the process


class Parser(argparse.ArgumentParser):
    """A command line of which nothing is dropped, and whose first process alone says what is wrong.

    An option that takes one value and is given twice is an error; of one that takes several, those
    of all its occurrences count.

    Args:
        otherwise: What is said of an option that is unknown, and not much like one that is known.
    """

    def __init__(self, *args: Any, otherwise: str = "", **options: Any) -> None:
        # Line breaks of descriptions and examples stay.
        common = {"formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(*args, **common | ({"prog": program} if program else {}) | options)
        self.register("action", None, _Store)
        self.register("action", "store", _Store)
        self.given: set[str] = set()
        self.words: list[str] = []
        self.otherwise = otherwise

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As of `argparse`; what an earlier call was given does not count."""
        self.given.clear()
        self.words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        """As of `argparse`; examples call the command as this call did."""
        text = super().format_help()
        return text.replace(f"python tools/{Path(sys.argv[0]).name}", program) if program else text

    def _print_message(self, message: str, file: Any = None) -> None:
        # By itself argparse ends well where help is lost, and not where nobody hears what is wrong.
        line = message.removesuffix("\n")
        if file is sys.stdout:
            answer(line)
        elif file is sys.stderr:
            say(line)
        else:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        """Ends the process with status 2."""
        if not is_first():
            self.exit(2)
        super().error(message + self._meant(message))

    def _meant(self, message: str) -> str:
        """Which option or value is meant, where one is unknown and another much like it."""
        if chosen := _CHOICE.search(message):
            return did_you_mean(chosen[1], re.findall(r"[\w.+-]+", chosen[2]))
        if not message.startswith(("unrecognized arguments", "the following arguments are req")):
            return ""
        known = self._option_string_actions
        unknown = [word.partition("=")[0] for word in self.words if word.startswith("--")]
        unknown = [word for word in unknown if not any(each.startswith(word) for each in known)]
        return did_you_mean(unknown[0], known, self.otherwise) if unknown else ""


class _Store(argparse._StoreAction):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        again = self.option_strings and self.dest in parser.given
        parser.given.add(self.dest)
        if again and self.nargs not in ("+", "*"):
            raise argparse.ArgumentError(
                self, f"given twice, as {getattr(namespace, self.dest)} and as {values}"
            )
        if again:
            values = [*getattr(namespace, self.dest), *values]
        super().__call__(parser, namespace, values, option)


def whole(least: int, most: int) -> Callable[[str], int]:
    """Type of an option: a whole number in a range."""

    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least} to {most}")
        return value

    parse.__name__ = "whole number"
    return parse


def share(text: str) -> tuple[int, int]:
    """Type of an option: ``K/N``, the share of the K-th of N processes beside each other."""
    k, _, n = text.partition("/")
    if not (k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise argparse.ArgumentTypeError(f"{text} is not K/N with K from 1 to N, such as 2/4")
    return int(k), int(n)


def number(least: float, most: float) -> Callable[[str], float]:
    """Type of an option: a number in a range."""

    def parse(text: str) -> float:
        value = float(text)
        if not least <= value <= most:  # nan is in no range
            raise argparse.ArgumentTypeError(f"{text} is not from {least:g} to {most:g}")
        return value

    parse.__name__ = "number"
    return parse
