"""Runs that submit themselves to SLURM through submitit."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import sys
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from vice.cli import set_up_log
from vice.errors import UserError, brief
from vice.plugins.vissl.launcher import run_here
from vice.plugins.vissl.slurm_step import meeting_port
from vice.runtime.preemption import Preempted, watch_signals
from vice.runtime.slurm import job_state, jobs_in_queue

logger = logging.getLogger(__name__)
#: What sbatch says where it reaches nobody who could refuse.
_UNREACHED = re.compile(
    "fetch_config|configuration source|resolve_ctls|contact slurm controller|Connection refused"
)
#: Files that submitit writes for a job before it has a number.
_UNNUMBERED = re.compile(r"(\.submission_file_)?[0-9a-f]{32}\.(pkl|sh)")
#: Times that a job that ran into its time limit is queued again.
MOST_LIMITS = 100
#: Seconds after the first task's end in which the others have to end as well.
WAIT = 60


class SlurmRun:
    """The job that submitit runs once on each node; queued again when it is stopped.

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
        if environment.global_rank == 0:
            set_up_log(sys.stdout)
        port = meeting_port(self.config.SLURM.PORT_ID, environment.raw_job_id)
        self.config.DISTRIBUTED.RUN_ID = f"{environment.hostnames[0]}:{port}"
        number = getattr(signal, f"SIG{environment.USR_SIG}")
        submitits = signal.getsignal(number)
        try:
            # Signal handlers: not even the seconds before training starts are without.
            with watch_signals():
                run_here(self.config, environment.global_rank, self.engine_name)
        except Preempted:
            if job_state(environment.raw_job_id) == "RUNNING":
                # Everything is saved: submitit may now do what it does for this signal.
                signal.signal(number, submitits)
                os.kill(os.getpid(), number)
                # Requeueing is the first task's, and SLURM then ends the others, by the
                # signal that submitit has them ignore.
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                time.sleep(WAIT)
            raise

    def checkpoint(self) -> Any:
        """Called by submitit for what is to be queued again: the same once more."""
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
        UserError: No SLURM on this machine, or SLURM refuses.
    """
    import submitit

    slurm = config.SLURM
    if shutil.which("sbatch") is None:
        raise UserError("config.SLURM.USE_SLURM=true, but there is no sbatch command here")
    folder = Path(slurm.LOG_FOLDER).absolute()
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=MOST_LIMITS)
    executor.update_parameters(**_parameters(config))
    earlier = jobs_in_queue(_submitted(folder))
    before = set(_unnumbered(folder))
    try:
        # Standard error: what sbatch says is told below, once.
        with redirect_stderr(StringIO()):
            job = str(executor.submit(SlurmRun(config, engine_name)).job_id)
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        for file in set(_unnumbered(folder)) - before:
            file.unlink(missing_ok=True)
        raise UserError(_refusal(error)) from error
    if earlier:
        logger.warning(
            "%s for %s, in the queue already: they take turns, each going on where the last ended",
            f"job {earlier[0]} is" if len(earlier) == 1 else f"jobs {', '.join(earlier)} are",
            config.CHECKPOINT.DIR,
        )
    # The first node's is what a training says, as its terminal would show it.
    logger.info("its log will be %s", folder / f"{job}_0_log.out")
    return job


def _submitted(folder: Path) -> list[str]:
    """Numbers of the jobs that submitit keeps in a folder."""
    return [file.name.partition("_")[0] for file in folder.glob("[0-9]*_submitted.pkl")]


def _unnumbered(folder: Path) -> list[Path]:
    """What submitit has written for jobs that have no number yet, or were refused one."""
    return [file for file in folder.glob("*") if _UNNUMBERED.fullmatch(file.name)]


def _refusal(error: Exception) -> str:
    """What is wrong, by what sbatch says."""
    if _UNREACHED.search(str(error)):
        return (
            "no SLURM controller answers here: submit from a machine on which sinfo shows "
            f"partitions, or set SLURM_CONF (sbatch says: {brief(error)})"
        )
    return f"sbatch refused the job: {' '.join(str(error).split())}"


def _parameters(config: Any) -> dict[str, Any]:
    slurm = config.SLURM
    processes = int(config.DISTRIBUTED.NUM_PROC_PER_NODE)
    options = {
        "job_name": slurm.NAME,
        "comment": slurm.COMMENT,
        "partition": slurm.PARTITION.strip(),
        "account": slurm.ACCOUNT,
        "qos": slurm.QOS,
        "constraint": slurm.CONSTRAINT,
        "time": int(slurm.TIME_HOURS) * 60 + int(slurm.TIME_MINUTES),
        "nodes": int(config.DISTRIBUTED.NUM_NODES),
        "ntasks_per_node": 1,
        "cpus_per_task": int(slurm.NUM_CPU_PER_PROC) * processes,
        "mem": f"{slurm.MEM_GB}GB",
        "signal_delay_s": int(config.VICE.STOP_NOTICE_SECONDS),
        "additional_parameters": {
            name: value
            for name, value in dict(slurm.ADDITIONAL_PARAMETERS or {}).items()
            # A flag that is not set, and what a config of one's own takes back.
            if value is not None and value is not False
        },
        # Node failure: one that is lost must not keep the others waiting for ever.
        "srun_args": [f"--wait={WAIT}"],
    }
    if config.MACHINE.DEVICE == "gpu":
        options["gpus_per_node"] = processes
    return {name: value for name, value in options.items() if value}
