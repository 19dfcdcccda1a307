"""How many threads there is room for, and how those of one process wait for one another."""

from __future__ import annotations

import os

#: What OpenMP reads when PyTorch brings it into a process.
_POLICY = "OMP_WAIT_POLICY"


def wait_asleep() -> None:
    """Lets OpenMP's threads sleep while they wait, unless the environment says otherwise.

    Busy waiting: by default they spin, and where another process has one of the cores, a step waits
    for the thread that is not running many times over. Processes that are started inherit it. It
    has to be called before PyTorch is imported.
    """
    os.environ.setdefault(_POLICY, "passive")


def cores() -> int:
    """Cores that this process may use: in a job of a cluster fewer than the machine has."""
    # CPU affinity: what SLURM, a container or taskset has bound the process to.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
