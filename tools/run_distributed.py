#!/usr/bin/env python
r"""Trains ViCE through VISSL, on one machine or on SLURM.

Usage:
    python tools/run_distributed.py config=NAME [KEY=VALUE ...]

Examples:
    python tools/run_distributed.py config=vice/folder "config.DATA.TRAIN.DATA_PATHS=[photos]"
    python tools/run_distributed.py config=vice/coco_highres config.SLURM.USE_SLURM=true \
        config.SLURM.PARTITION=gpu
    python tools/run_distributed.py config=vice/coco_lowres config.DISTRIBUTED.NUM_NODES=1 \
        config.CHECKPOINT.DIR=outputs/lowres config.VICE.VIEWS.num_views=3

    python tools/run_distributed.py config=vice/folder --help

The last one prints every option of a config: its value there, what it means, and what it may be.
Every key of a config can be overridden; the resolved one is kept as train_config.yaml in
config.CHECKPOINT.DIR, and so is log.txt. The same command resumes a run that was stopped or killed.
On Ctrl-C, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 a run ends its step, saves itself and exits
with status 75; with 130 on Ctrl-C before there is anything to save. A second Ctrl-C ends at once.
"""

import os
import sys

from vice.cli import run, show
from vice.paths import check_config, experiment_names
from vice.runtime.answers import answer
from vice.runtime.preemption import watch_signals

#: Said where it is stopped.
KEPT = "states that were saved stay, and the same command goes on"


def main() -> int:
    overrides = sys.argv[1:]
    asked = [text for text in overrides if text not in ("-h", "--help")]
    if not asked:
        names = "\n    ".join(experiment_names())
        answer(f"{__doc__}\nNames:\n    {names}")
        return 0
    if asked != overrides:
        from vice.plugins.vissl.config.compose import help_text

        answer(help_text(asked))
        return 0
    check_config(asked)
    with watch_signals():
        # Importing VISSL takes seconds, and help needs none of it.
        from vice.plugins.vissl.train import train

        show(train(overrides))
    return 0


if __name__ == "__main__":
    # srun starts this once on each node of a job.
    run(main, joins="SLURM_STEP_NUM_TASKS" in os.environ, kept=KEPT)
