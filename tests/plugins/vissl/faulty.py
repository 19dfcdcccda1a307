"""Runs the real training with one hook more, which does certain harms at certain steps.

Usage: python -m tests.plugins.vissl.faulty HARM:RANK:ITERATIONS[,...] OVERRIDES...
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any

import torch

from vice.cli import run
from vice.images import FormatError
from vice.plugins.vissl import launcher
from vice.plugins.vissl.config.configure import configure
from vice.plugins.vissl.hooks.base import SilentHook
from vice.plugins.vissl.hooks.run import vice_hooks


class Harm(SilentHook):
    """Does harm on one rank at one step, or from one to another; any number of them."""

    def __init__(self, harms: str) -> None:
        super().__init__()
        self.harms = [_parse(harm) for harm in harms.split(",")]

    def on_forward(self, task: Any) -> None:
        for harm, rank, iterations in self.harms:
            if int(os.environ["RANK"]) == rank and task.iteration in iterations:
                _do(harm, task)


def _parse(text: str) -> tuple[str, int, range]:
    harm, rank, iterations = text.split(":")
    first, _, last = iterations.partition("-")
    return harm, int(rank), range(int(first), int(last or first) + 1)


def _do(harm: str, task: Any) -> None:
    if harm == "raise":
        raise ValueError("harm on purpose")
    if harm == "refuse":
        raise FormatError("odd.tif: nothing says what its bands mean; write RGB")
    if harm == "hang":
        time.sleep(600)
    if harm == "stop":
        os.kill(os.getpid(), signal.SIGUSR1)
    if harm == "abort":
        # Finalization: what a module still holds is destroyed after all that clears up by itself.
        os.aborting = Aborting()
    if harm == "fill":
        _fill()
    if harm == "free":
        os.unlink(os.environ["BALLAST"])
    if harm == "loss":
        task.last_batch.model_output[0].data.fill_(torch.nan)
    if harm == "gradient":
        task.last_batch.model_output[0].register_hook(lambda gradient: gradient * torch.nan)


class Aborting:
    """Ends the process as a destructor in C++ does that meets what it has not reckoned with."""

    def __init__(self) -> None:
        self.abort = os.abort

    def __del__(self) -> None:
        self.abort()


def _fill() -> None:
    """Takes all the space that is left on a disk."""
    with open(os.environ["BALLAST"], "ab", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(4096))


def hooks(cfg: Any, harm: Harm, **options: Any) -> list[Any]:
    return [harm, *vice_hooks(cfg, **options)]


def main() -> None:
    harms, *overrides = sys.argv[1:]
    launcher.GRACE = float(os.environ.get("GRACE", launcher.GRACE))
    args, config = configure(overrides)
    harmful = partial(hooks, harm=Harm(harms))
    launcher.run_here(config, int(args.node_id), args.engine_name, harmful)


if __name__ == "__main__":
    run(main)
