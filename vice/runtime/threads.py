"""How many threads there is room for, how they wait for one another, and who goes first."""

from __future__ import annotations

import os

#: What OpenMP reads when PyTorch brings it into a process.
_POLICY = "OMP_WAIT_POLICY"
#: What `give_way` adds to a process's niceness: a busy core is shared one to three.
WAY = 5


def wait_asleep() -> None:
    """Lets OpenMP's threads sleep while they wait, unless the environment says otherwise.

    Busy waiting: by default they spin, and where another process has one of the cores, a step waits
    for the thread that is not running many times over. Processes that are started inherit it. It
    has to be called before PyTorch is imported.
    """
    os.environ.setdefault(_POLICY, "passive")


def give_way() -> None:
    """Lets other processes have the cores first, those of the same niceness as this one has now.

    Scheduling priority: for a process that prepares what another one computes with on the same
    cores, where the threads of a network wait for the slowest of them at every layer.
    """
    if hasattr(os, "nice"):
        os.nice(WAY)


def cores() -> int:
    """Cores that this process may use: in a job of a cluster fewer than the machine has."""
    # CPU affinity: what SLURM, a container or taskset has bound the process to.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
