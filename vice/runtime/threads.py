"""How the threads of one process wait for one another."""

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
