"""What SLURM tells of a job."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable


def job_state(job: str) -> str:
    """State of a job as SLURM names it, for example RUNNING; empty if it does not answer."""
    return _squeue("--jobs", job, "--format", "%T")


def jobs_in_queue(jobs: Iterable[str]) -> list[str]:
    """Those of some of the user's jobs that wait or run; none if SLURM does not answer."""
    # By user: one job that SLURM has forgotten would make a list of numbers an error.
    waiting = _squeue("--me", "--format", "%A").split()
    return sorted(set(waiting) & set(jobs), key=int)


def _squeue(*options: str) -> str:
    command = ["squeue", "--noheader", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
