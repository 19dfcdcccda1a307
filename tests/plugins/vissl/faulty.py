"""Runs the real training with one hook more, which does a certain harm at a certain step.

Usage: python -m tests.plugins.vissl.faulty HARM RANK ITERATION OVERRIDES...
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import Any

import torch

from vice.cli import run
from vice.plugins.vissl.base_hook import SilentHook
from vice.plugins.vissl.configure import configure
from vice.plugins.vissl.hooks import vice_hooks
from vice.plugins.vissl.launcher import run_here


class Harm(SilentHook):
    """Does harm on one rank, from one step on."""

    def __init__(self, harm: str, rank: int, iterations: range) -> None:
        super().__init__()
        self.harm = harm
        self.rank = rank
        self.iterations = iterations

    def _now(self, task: Any) -> bool:
        return int(os.environ["RANK"]) == self.rank and task.iteration in self.iterations

    def on_forward(self, task: Any) -> None:
        if not self._now(task):
            return
        if self.harm == "raise":
            raise ValueError("harm on purpose")
        if self.harm == "hang":
            time.sleep(600)
        if self.harm == "loss":
            task.last_batch.model_output[0].data.fill_(torch.nan)
        if self.harm == "gradient":
            task.last_batch.model_output[0].register_hook(lambda gradient: gradient * torch.nan)


def hooks(cfg: Any, harm: Harm, **options: Any) -> list[Any]:
    return [harm, *vice_hooks(cfg, **options)]


def main() -> None:
    harm, rank, iterations, *overrides = sys.argv[1:]
    first, _, last = iterations.partition("-")
    when = range(int(first), int(last or first) + 1)
    args, config = configure(overrides)
    harmful = partial(hooks, harm=Harm(harm, int(rank), when))
    run_here(config, int(args.node_id), args.engine_name, harmful)


if __name__ == "__main__":
    run(main)
