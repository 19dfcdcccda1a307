"""What command lines share: logging, one line for bad input, the options of an evaluation."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from typing import Any, NoReturn

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
    # FAISS tells which of its builds it tries, with tracebacks of those that do not fit the CPU.
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
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


def evaluation_parser(description: str | None, example: str) -> argparse.ArgumentParser:
    """Options that every evaluation has: what is scored, on what, and where results go.

    Args:
        description: First lines of ``--help``.
        example: Last lines of ``--help``.

    Returns:
        The parser, to add the evaluation's own options to.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint",
        help="run folder, checkpoint file, random:PATH, random:resnet18-fpn-128, or lab",
    )
    parser.add_argument("--dataset", required=True, help="data set in the labelled-folder layout")
    parser.add_argument("--out", required=True, help="results directory")
    parser.add_argument("--split-fit", default="train", help="split to fit on (train)")
    parser.add_argument("--split-score", default="val", help="split to score (val)")
    parser.add_argument("--workers", type=int, default=0, help="data loading processes (0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (a GPU if there is one)")
    return parser


def task_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What `evaluation_parser` has parsed, as arguments of the evaluations."""
    return {
        "spec": args.checkpoint,
        "dataset_root": args.dataset,
        "out_dir": args.out,
        "split_fit": args.split_fit,
        "split_score": args.split_score,
        "workers": args.workers,
        "seed": args.seed,
        "device": args.device,
    }
