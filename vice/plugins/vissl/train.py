"""From overrides to a run: on this machine, or submitted to SLURM."""

from __future__ import annotations

from pathlib import Path

from vice.errors import UserError
from vice.models.checkpoint import load_checkpoint
from vice.models.training_state import final_state
from vice.plugins.vissl.config.configure import configure
from vice.plugins.vissl.launcher import run_here
from vice.plugins.vissl.slurm import submit
from vice.runtime.run_folder import WEIGHTS_NAME


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
    run_here(config, int(args.node_id), args.engine_name, overrides=overrides)
    return f"trained: {_whole(Path(config.CHECKPOINT.DIR), int(config.OPTIMIZER.num_epochs))}"


def _whole(folder: Path, epochs: int) -> Path:
    """The exported weights, after it was seen that they are whole and of the last epoch.

    Raises:
        UserError: They are not; the state of the last epoch is there all the same.
    """
    path = folder / WEIGHTS_NAME
    state = final_state(folder)
    again = (
        f"delete {state} to take the last epoch once more with the same command"
        if state
        else "the same command goes on"
    )
    try:
        reached = load_checkpoint(path).meta.get("epoch")
    except UserError as error:
        raise UserError(f"the training is done, but {error}. Load {state}, or {again}") from error
    if state is None or reached != epochs:
        raise UserError(f"{path} is of epoch {reached}, the training has {epochs}: {again}")
    return path
