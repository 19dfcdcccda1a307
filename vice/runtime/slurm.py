"""What SLURM tells of a job."""

from __future__ import annotations

import subprocess


def job_state(job: str) -> str:
    """State of a job as SLURM names it, for example RUNNING; empty if it does not answer."""
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
