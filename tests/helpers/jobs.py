"""Jobs on a real SLURM: submitted, waited for, and queued again."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.helpers import slurm
from tests.helpers.processes import ROOT

SCRIPTS = ROOT / "scripts" / "slurm"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
#: Seconds that a job may take for a step of a test: ten times those of an idle machine.
PATIENCE = 900.0


def sbatch(
    environment: dict[str, str], log: Path, script: Sequence[object], *arguments: object
) -> str:
    """Submits a script, with options for sbatch before it; the number of the job."""
    options = [f"--output={log}", "--gres=none", "--cpus-per-task=1", "--mem=2G"]
    done = subprocess.run(
        ["sbatch", "--parsable", *options, *map(str, [*script, *arguments])],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state(environment: dict[str, str], job: str) -> str:
    """What SLURM calls the state of a job; empty if it does not answer in time."""
    text = slurm.call(environment, "scontrol", "show", "job", job)
    found = re.search(r"JobState=(\w+)", text)
    return found.group(1) if found else ""


def wait_for(condition: Callable[[], object], out: Path, seconds: float = PATIENCE) -> None:
    """Waits, and shows the logs below a folder where that is in vain."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s\n{_logs(out)}"
        time.sleep(0.3)


def wait_for_job(
    environment: dict[str, str], job: str, condition: Callable[[], object], out: Path
) -> None:
    """Waits for what a job does; one that has ended will not do it any more."""

    def reached() -> bool:
        found = state(environment, job)
        done = bool(condition())
        assert done or found not in ENDED, f"job {job} is {found}\n{_logs(out)}"
        return done

    wait_for(reached, out)


def wait_for_state(environment: dict[str, str], job: str, out: Path, *names: str) -> None:
    """Waits until a job is in one of these states; one that has ended in another never will be."""

    def reached() -> bool:
        found = state(environment, job)
        assert found in names or found not in ENDED, f"job {job} is {found}\n{_logs(out)}"
        return found in names

    wait_for(reached, out)


def start_again(environment: dict[str, str], job: str, out: Path) -> None:
    """Waits until a job has been queued again, and starts it without SLURM's usual delay."""
    wait_for_state(environment, job, out, "PENDING")
    # What SLURM hands out in the second in which it queues a job again is revoked with the rest.
    time.sleep(2)
    slurm.call(environment, "scontrol", "update", f"jobid={job}", "StartTime=now")


def _logs(folder: Path) -> str:
    files = sorted((folder / "slurm").glob("*.err"))
    return "\n".join(f"{file.name}: ...{file.read_text()[-2000:]}" for file in files)
