"""From overrides to a run: on this machine, or submitted to SLURM."""

from __future__ import annotations

from pathlib import Path

from vice.checkpoint import WEIGHTS_NAME
from vice.plugins.vissl.configure import configure
from vice.plugins.vissl.launcher import run_here
from vice.plugins.vissl.slurm import submit


def train(overrides: list[str]) -> str:
    """Trains as the overrides say; what ``tools/run_distributed.py`` calls.

    Args:
        overrides: Hydra overrides.

    Returns:
        What has come of it, for the user: the checkpoint's path or the job's number.

    Raises:
        UserError: Bad input, also when a spawned process or a data worker found it.
        Preempted: The run was asked to stop, and what it has done is saved.
    """
    args, config = configure(overrides)
    if config.SLURM.USE_SLURM:
        return f"submitted job {submit(config, args.engine_name)}"
    run_here(config, int(args.node_id), args.engine_name)
    return f"trained: {Path(config.CHECKPOINT.DIR) / WEIGHTS_NAME}"
