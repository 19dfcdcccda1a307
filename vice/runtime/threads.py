"""How many threads there is room for, how they wait for one another, and who goes first."""

from __future__ import annotations

import math
import os

from vice.runtime.cpu_quota import cpu_quota

#: What OpenMP reads when PyTorch brings it into a process.
_POLICY = "OMP_WAIT_POLICY"
_THREADS = "OMP_NUM_THREADS"
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


def keep_to_quota() -> None:
    """Has OpenMP start no more threads than there is time for, unless the environment says others.

    By itself it counts cores, also where a container may use a part of their time. Twice as many
    threads as there is time for lose nothing. It has to be called before PyTorch is imported.
    """
    if _crowded():
        os.environ.setdefault(_THREADS, str(cores()))


def share_cores(processes: int) -> None:
    """Has each of some processes start its share of threads, unless the environment says others.

    Thread oversubscription: processes with a thread per core each fight for the cores. It has to be
    called before they are started.
    """
    ours = str(cores()) if _crowded() else None
    if os.environ.get(_THREADS) in (None, ours):
        os.environ[_THREADS] = str(max(cores() // processes, 1))


def cores() -> int:
    """Cores that this process may use: in a job or a container fewer than the machine has."""
    quota = cpu_quota()
    return _bound() if quota is None else min(_bound(), math.ceil(quota))


def _crowded() -> bool:
    return 2 * cores() < _bound()


def _bound() -> int:
    # CPU affinity: what SLURM, a container or taskset has bound the process to.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
