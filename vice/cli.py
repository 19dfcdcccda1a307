"""What command lines share: logging, one line for bad input, the options of an evaluation."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import logging
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TextIO

from vice import interrupts
from vice.datasets import DATASETS
from vice.devices import NAMES, check_device
from vice.errors import UserError, one_line
from vice.files import check_folder, disk_errors
from vice.launch import read_environment
from vice.loader_faults import loader_fault
from vice.log_streams import guard, make_lenient
from vice.paths import typed_text
from vice.preemption import STOPPED, Preempted
from vice.protocol_effects import check_effects
from vice.protocols import default_protocol, get_protocol, parse_changes
from vice.published_protocols import NOTES, PROTOCOLS
from vice.scoring import mean_over

#: How a line on the terminal begins.
LINE, CLOCK = "%(asctime)s %(message)s", "%H:%M:%S"


def run(main: Callable[[], int | None], *, joins: bool = False) -> NoReturn:
    """Runs a command line and ends the process.

    Exit status: what ``main`` returns (None counts as 0), 2 for a `UserError`, whose message goes
    to stderr as one line ``error: ...``, 75 for a run that was asked to stop and has saved itself,
    130 after Ctrl-C, and 141 if nobody reads the output to its end. Other exceptions are bugs and
    keep their traceback.

    Args:
        main: The command; it parses ``sys.argv`` itself.
        joins: Whether processes that torchrun or srun started do one job together. All but the
            first then say nothing but errors.
    """
    set_up_log()
    try:
        with interrupts.interruptible():
            status = _status(main, joins)
    finally:
        interrupts.give_up_unread()
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
    # FAISS tells which of its builds it tries, with tracebacks of those that do not fit the CPU.
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)


def _status(main: Callable[[], int | None], joins: bool) -> int:
    first = True
    try:
        first = not joins or is_first()
        if not first:
            _be_quiet()
        with disk_errors("a file"):
            return _unless_unread(main)
    except UserError as error:
        _say(f"error: {one_line(error)}")
        return 2
    except Preempted as stop:
        if first:
            _say(stop.message)
        return STOPPED
    except KeyboardInterrupt as stop:
        interrupts.end_helpers()
        if first:
            _say(str(stop) or interrupts.MESSAGE)
        return interrupts.INTERRUPTED
    except Exception as error:
        if not (fault := loader_fault(error)):
            raise
        _say(f"error: {fault}")
        return 2


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
    """Prints what a command has come to; if nobody reads it, it was done all the same."""
    with contextlib.suppress(OSError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def _say(message: str) -> None:
    # A terminal that is lost must change neither what was done nor the exit status.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


def is_first() -> bool:
    """Whether this process is on its own, or the first of those that were started with it."""
    place = read_environment(os.environ)
    return place is None or place.rank == 0


def _be_quiet() -> None:
    logging.getLogger().setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it stays for the rest of the process


class Parser(argparse.ArgumentParser):
    """Lets the first process alone say what is wrong with the command line."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with status 2."""
        if not is_first():
            self.exit(2)
        super().error(message)


def evaluation_parser(description: str | None, example: str) -> argparse.ArgumentParser:
    """Options that every evaluation has: what is scored, on what, how, and where results go.

    Args:
        description: First lines of ``--help``.
        example: Last lines of ``--help``.

    Returns:
        The parser, to add the evaluation's own options to.
    """
    notes = "".join(
        textwrap.fill(f"{name}: {note}", 88, initial_indent="  ", subsequent_indent="      ") + "\n"
        for name, note in NOTES.items()
    )
    parser = Parser(
        description=description,
        epilog=f"protocols:\n{notes}\nexample:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "checkpoint",
        type=typed_text,
        help="run folder or checkpoint file (ViCE, VISSL, torchvision), random:PATH, "
        "random:resnet18-fpn-128, torchvision:resnet50, timm:NAME[@FILE], MODULE:CALLABLE, or lab",
    )
    add(
        "--dataset",
        required=True,
        type=typed_text,
        help=f"{', '.join(DATASETS)}, or a labelled folder",
    )
    add("--protocol", choices=sorted(PROTOCOLS), help="(vice2022_highres or native, see below)")
    add(
        "--data-root",
        type=typed_text,
        help="folder above the benchmarks' folders (VICE_DATA, or data)",
    )
    add("--fit-dataset", type=typed_text, help="fit on this data set instead, of the same classes")
    add("--out", type=typed_text, help="results directory (outputs/eval/...)")
    add("--split-fit", help="split to fit on (as the protocol says)")
    add("--split-score", help="split to score (as the protocol says)")
    add(
        "--set",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="change fields of the protocol, and with them its hash, for example upsample=classes; "
        "those without effect are refused",
    )
    add(
        "--cache-gib",
        type=number(0, 1e6),
        default=0.0,
        help="keep embeddings up to this many GiB (0)",
    )
    add("--workers", type=whole(0, 1024), default=0, help="data loading processes (0)")
    add("--seed", type=whole(0, 2**31 - 1), default=0)
    add("--device", help=f"{NAMES} (a GPU of CUDA if there is one)")
    return parser


def task_arguments(
    args: argparse.Namespace, kind: str, *, detail: str = "", **fields: str
) -> dict[str, Any]:
    """What `evaluation_parser` has parsed, as arguments of the evaluations.

    Args:
        args: The parsed command line.
        kind: ``"linear"``, ``"clusters"`` or ``"finetune"``.
        detail: What else is in the name of the default results directory.
        **fields: Option to the field of the protocol that it changes.

    Returns:
        Keyword arguments; ``out_dir`` is always given.

    Raises:
        UserError: A field, the device or the results directory cannot be used, or a field is
            changed that has no effect.
    """
    changes = parse_changes(args.set)
    for option, field in {"split_fit": "fit_split", "split_score": "score_split", **fields}.items():
        if getattr(args, option) is not None:
            changes[field] = getattr(args, option)
    name = args.dataset if args.dataset in DATASETS else "folder"
    if args.device is not None:
        check_device(args.device, "--device")
    protocol = get_protocol(args.protocol or default_protocol(name), name, **changes)
    check_effects(kind, protocol)
    data = Path(args.dataset).resolve().name
    parts = [data, protocol.name, protocol.hash, kind + detail, args.checkpoint, f"seed{args.seed}"]
    folder = "-".join(re.sub(r"[^\w.]+", "_", part).strip("_") for part in parts)
    out = args.out or str(Path("outputs", "eval", folder))
    check_folder("--out", out)
    return {
        "spec": args.checkpoint,
        "dataset": args.dataset,
        "out_dir": out,
        "protocol": dataclasses.asdict(protocol),
        "data_root": args.data_root,
        "fit_dataset": args.fit_dataset,
        "cache_bytes": int(args.cache_gib * 2**30),
        "workers": args.workers,
        "seed": args.seed,
        "device": args.device,
    }


def whole(least: int, most: int) -> Callable[[str], int]:
    """Type of an option: a whole number in a range."""

    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least} to {most}")
        return value

    parse.__name__ = "whole number"
    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """Type of an option: a number in a range."""

    def parse(text: str) -> float:
        value = float(text)
        if not least <= value <= most:  # nan is in no range
            raise argparse.ArgumentTypeError(f"{text} is not from {least:g} to {most:g}")
        return value

    parse.__name__ = "number"
    return parse


def percent(scores: dict[str, Any]) -> str:
    """Gives mIoU and accuracy in percent, and over how many classes, for the terminal."""
    shown = [scores[name] for name in ("miou", "accuracy")]
    text = " / ".join("-" if value is None else f"{100 * value:.2f}" for value in shown)
    over = mean_over([scores])
    return f"{text} ({over})" if over else text
