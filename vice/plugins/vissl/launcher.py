"""Starts a run: here, or on SLURM through submitit."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from vissl.utils.distributed_launcher import launch_distributed

from vice.checkpoint import WEIGHTS_NAME
from vice.errors import UserError
from vice.plugins.vissl.configure import configure
from vice.plugins.vissl.hooks import vice_hooks


def train(overrides: list[str]) -> str:
    """Trains as the overrides say; what ``tools/run_distributed.py`` calls.

    Args:
        overrides: Hydra overrides.

    Returns:
        What has come of it, for the user: the checkpoint's path or the job's number.

    Raises:
        UserError: Bad input, also when a spawned process or a data worker found it.
    """
    args, config = configure(overrides)
    if config.SLURM.USE_SLURM:
        return f"submitted job {submit(config, args.engine_name)}"
    run_here(config, int(args.node_id), args.engine_name)
    return f"trained: {Path(config.CHECKPOINT.DIR) / WEIGHTS_NAME}"


def run_here(config: Any, node_id: int, engine_name: str = "train") -> None:
    """Runs this node's processes and waits for them.

    Args:
        config: What `configure` returns.
        node_id: 0 to NUM_NODES - 1.
        engine_name: VISSL's engine.

    Raises:
        UserError: Raised by any process.
    """
    processes = int(config.DISTRIBUTED.NUM_PROC_PER_NODE)
    if config.MACHINE.DEVICE == "cpu" and processes > 1:
        # Several processes with a thread per core each would fight for the cores.
        share = max((os.cpu_count() or 1) // processes, 1)
        os.environ.setdefault("OMP_NUM_THREADS", str(share))
    try:
        launch_distributed(config, node_id, engine_name, vice_hooks)
    except torch.multiprocessing.ProcessRaisedException as error:
        found = re.findall(r"^vice\.\w+\.(?:UserError|ImageError): (.*)", str(error), re.M)
        if found:
            raise UserError(found[-1]) from error
        raise


class SlurmRun:
    """The job that submitit runs once on each node; resubmits itself when preempted.

    Args:
        config: What `configure` returns.
        engine_name: VISSL's engine.
    """

    def __init__(self, config: Any, engine_name: str) -> None:
        self.config = config
        self.engine_name = engine_name

    def __call__(self) -> None:
        """Meets the other nodes at the first one and trains."""
        import submitit

        environment = submitit.JobEnvironment()
        self.config.DISTRIBUTED.INIT_METHOD = "tcp"
        address = f"{environment.hostnames[0]}:{self.config.SLURM.PORT_ID}"
        self.config.DISTRIBUTED.RUN_ID = address
        run_here(self.config, environment.global_rank, self.engine_name)

    def checkpoint(self) -> Any:
        """Called by submitit before the time limit or a preemption."""
        import submitit

        return submitit.helpers.DelayedSubmission(SlurmRun(self.config, self.engine_name))


def submit(config: Any, engine_name: str) -> str:
    """Submits a run to SLURM.

    Args:
        config: What `configure` returns; ``config.SLURM`` says where and how long.
        engine_name: VISSL's engine.

    Returns:
        The job's id.

    Raises:
        UserError: No SLURM on this machine, or a setting is missing.
    """
    import shutil

    import submitit

    slurm = config.SLURM
    if shutil.which("sbatch") is None:
        raise UserError("config.SLURM.USE_SLURM=true, but there is no sbatch command here")
    if not slurm.PARTITION:
        raise UserError("set config.SLURM.PARTITION to submit to SLURM")
    executor = submitit.SlurmExecutor(folder=Path(slurm.LOG_FOLDER).absolute())
    processes = int(config.DISTRIBUTED.NUM_PROC_PER_NODE)
    options = {
        "job_name": slurm.NAME,
        "comment": slurm.COMMENT,
        "partition": slurm.PARTITION,
        "constraint": slurm.CONSTRAINT,
        "time": int(slurm.TIME_HOURS) * 60 + int(slurm.TIME_MINUTES),
        "nodes": int(config.DISTRIBUTED.NUM_NODES),
        "ntasks_per_node": 1,
        "cpus_per_task": int(slurm.NUM_CPU_PER_PROC) * processes,
        "mem": f"{slurm.MEM_GB}GB",
        "additional_parameters": dict(slurm.ADDITIONAL_PARAMETERS or {}),
    }
    if config.MACHINE.DEVICE == "gpu":
        options["gpus_per_node"] = processes
    executor.update_parameters(**{name: value for name, value in options.items() if value})
    job = executor.submit(SlurmRun(config, engine_name))
    return str(job.job_id)
