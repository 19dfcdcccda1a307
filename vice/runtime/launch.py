"""Launch environment: what torchrun and srun tell a process about the others of its job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vice.errors import UserError

# Port range: below what Linux hands out by itself, and away from SLURM's own.
FIRST_PORT, PORTS = 20_000, 12_000
STEPS_OF_A_JOB = 16


@dataclass(frozen=True)
class ProcessPlace:
    """One process's place among several.

    Attributes:
        rank: Its number among all processes, from 0.
        world_size: Number of all processes, at least 2.
        local_rank: Its number among the processes of its node, from 0.
        address: Host of the first process.
        port: Where the first process is waiting for the others.
    """

    rank: int
    world_size: int
    local_rank: int
    address: str
    port: int


def read_environment(environment: Mapping[str, str]) -> ProcessPlace | None:
    """Finds out whether a process was started together with others, and as which one.

    torchrun wins over srun, so that srun may start a torchrun on each node. A script inside sbatch
    or salloc is one process, whatever number of tasks the job has: only srun starts tasks, and only
    it sets ``SLURM_STEP_NUM_TASKS``. ``MASTER_ADDR`` and ``MASTER_PORT`` overrule what is derived
    from SLURM's variables.

    Args:
        environment: For example ``os.environ``.

    Returns:
        The place, or None for a process on its own.

    Raises:
        UserError: A variable is missing or no number.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _of_torchrun(environment)
    if "SLURM_PROCID" in environment and "SLURM_STEP_NUM_TASKS" in environment:
        return _of_srun(environment)
    return None


def first_host(hosts: str) -> str:
    """First host of a SLURM list: ``"node[003-004,9],login"`` gives ``"node003"``."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", hosts)
    if first is None:
        raise UserError(f"no host in the node list {hosts!r}: set MASTER_ADDR to the first node")
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first.group())


def step_port(job: int, step: int) -> int:
    """A port for a step of a job; jobs of neighbouring numbers and their steps never share one."""
    return FIRST_PORT + (job * STEPS_OF_A_JOB + step % STEPS_OF_A_JOB) % PORTS


def local_device(device: str | None, local_rank: int, gpus: int) -> str:
    """Device of one of several processes of a node.

    Args:
        device: What the user named: None, ``"cpu"`` or ``"cuda"``.
        local_rank: See `ProcessPlace`.
        gpus: Number of GPUs that the process can see.

    Returns:
        ``"cpu"`` or ``"cuda:<index>"``.

    Raises:
        UserError: One certain GPU for all processes, or fewer GPUs than processes.
    """
    if device == "cpu" or (device is None and gpus == 0):
        return "cpu"
    if device not in (None, "cuda"):
        raise UserError(f"device {device} cannot serve several processes: name cpu, cuda or none")
    # CUDA_VISIBLE_DEVICES: a scheduler may show each process its own GPU alone, then index 0.
    index = 0 if gpus == 1 else local_rank
    if index >= gpus:
        raise UserError(
            f"process {local_rank + 1} of a node that shows {gpus} GPUs: start one process for "
            "each GPU, or set the device to cpu"
        )
    return f"cuda:{index}"


def _of_torchrun(environment: Mapping[str, str]) -> ProcessPlace | None:
    world_size = _number(environment, "WORLD_SIZE")
    if world_size < 2:
        return None
    if not environment.get("MASTER_ADDR"):
        raise UserError("RANK and WORLD_SIZE are set but not MASTER_ADDR: start with torchrun")
    return ProcessPlace(
        rank=_number(environment, "RANK"),
        world_size=world_size,
        local_rank=_number(environment, "LOCAL_RANK"),
        address=environment["MASTER_ADDR"],
        port=_number(environment, "MASTER_PORT"),
    )


def _of_srun(environment: Mapping[str, str]) -> ProcessPlace | None:
    world_size = _number(environment, "SLURM_STEP_NUM_TASKS")
    if world_size < 2:
        return None
    hosts = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    if environment.get("MASTER_PORT"):
        port = _number(environment, "MASTER_PORT")
    else:
        job, step = _number(environment, "SLURM_JOB_ID"), _number(environment, "SLURM_STEP_ID")
        port = step_port(job, step)
    return ProcessPlace(
        rank=_number(environment, "SLURM_PROCID"),
        world_size=world_size,
        local_rank=_number(environment, "SLURM_LOCALID"),
        address=environment.get("MASTER_ADDR") or first_host(hosts),
        port=port,
    )


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isdecimal():
        raise UserError(f"{name} is {text!r}, not a number: start with torchrun or srun")
    return int(text)
