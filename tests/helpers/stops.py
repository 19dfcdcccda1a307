"""Asks real trainings to stop, by any signal at any moment, and looks at what is left of them."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.helpers.forked import Forked
from tests.helpers.kills import ENVIRONMENT, LONG, REPO
from vice.models.training_state import newest_snapshot, read_snapshot
from vice.runtime.health_log import read_health

#: Signals of a person, or of a terminal that is lost.
PERSONAL = ("SIGINT", "SIGQUIT", "SIGHUP")
EPOCHS = 4
_LINE = re.compile(r"\d\d:\d\d:\d\d ")


@dataclass(frozen=True)
class Stop:
    """How a training is stopped.

    Attributes:
        signal: Name of the signal.
        moment: Says, given the run folder, whether the time has come.
        delay: Seconds from then on.
        times: How often the signal is sent.
        pause: Seconds between two.
        group: Whether all processes get it, as from a terminal, or only the one that was started.
        ranks: 1 or 2.
        more: Further overrides.
    """

    signal: str
    moment: Callable[[Path], bool]
    delay: float = 0.0
    times: int = 1
    pause: float = 0.3
    group: bool = True
    ranks: int = 1
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        status: Exit status.
        stdout: Everything there.
        stderr: Everything there.
        left: Processes of the training that are still there.
        seconds: From the signal to the end.
    """

    status: int
    stdout: str
    stderr: str
    left: tuple[int, ...]
    seconds: float

    def said(self) -> list[str]:
        """Lines of the terminal that are no log lines: the last words."""
        lines = (self.stdout + self.stderr).splitlines()
        return [line for line in lines if line and not _LINE.match(line)]


def stopped(arguments: list[str], out: Path, stop: Stop) -> Outcome:
    """Starts a training in a session of its own, stops it, and waits for its end."""
    command = [REPO / "tools" / "run_distributed.py", *arguments, *length(stop.ranks), *stop.more]
    process = Forked(command, own_session=True, real_spawn=True, **ENVIRONMENT)
    until = time.monotonic() + 200
    while process.running() and os.getsid(process.pid) != process.pid:
        time.sleep(0.002)
    while process.running() and time.monotonic() < until and not stop.moment(out):
        time.sleep(0.002)
    time.sleep(stop.delay)
    asked = time.monotonic()
    for turn in range(stop.times):
        time.sleep(stop.pause if turn else 0.0)
        with suppress(ProcessLookupError):
            (os.killpg if stop.group else os.kill)(process.pid, getattr(signal, stop.signal))
    done = process.wait(200)
    seconds = time.monotonic() - asked
    return Outcome(done.returncode, done.stdout, done.stderr, _left(process.pid), seconds)


def length(ranks: int) -> tuple[str, ...]:
    """Overrides of a training of so many ranks, some seconds long, with the same images a step."""
    return (
        *LONG,
        f"config.OPTIMIZER.num_epochs={EPOCHS}",
        "config.VICE.HEALTH.pictures=0",
        f"config.DISTRIBUTED.NUM_PROC_PER_NODE={ranks}",
        f"config.DATA.TRAIN.BATCHSIZE_PER_REPLICA={2 // ranks}",
    )


def after(step: int) -> Callable[[Path], bool]:
    """The moment at which so many steps have been taken."""
    return lambda out: len(read_health(out)) >= step


def at_file(pattern: str) -> Callable[[Path], bool]:
    """The moment at which there is such a file in the run folder."""
    return lambda out: any(out.glob(pattern))


def at_once(out: Path) -> bool:
    """The moment of the start."""
    return True


def wrong(outcome: Outcome, out: Path) -> str | None:
    """What is not as it should be after a stop; None if all is."""
    text, words = outcome.stdout + outcome.stderr, outcome.said()
    if "Traceback" in text or "Error" in text:
        return f"more than a line: {text[-1500:]}"
    if outcome.left:
        return f"{len(outcome.left)} processes are left"
    if outcome.status == 0:
        if words != [f"trained: {out / 'vice.safetensors'}"]:
            return f"status 0, and said {words}"
        return None if any(out.glob("model_final*")) else "status 0 without a last state"
    if outcome.status not in (75, 130):
        return f"status {outcome.status}: {text[-1000:]}"
    if len(words) != 1 or not words[0].startswith("stopped"):
        return f"not one line: {words}"
    if outcome.status == 130:
        return None
    done = len(read_health(out))
    state = newest_snapshot(out) if out.is_dir() else None
    if "before the first step" in words[0]:
        return None if not done else f"{done} steps are lost"
    if state is None or read_snapshot(state)["iteration"] != done:
        return f"{done} steps were taken, and saved is {state}"
    return None


def drawn_delay(rng: np.random.Generator, most: float) -> float:
    """Seconds, from none to so many."""
    return float(rng.uniform(0.0, most))


def _left(session: int) -> tuple[int, ...]:
    """Processes of a session that have not ended, a moment after they were told to."""
    for _ in range(50):
        found = tuple(pid for pid in _processes() if _is_in(pid, session))
        if not found:
            return ()
        time.sleep(0.1)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return found


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _is_in(pid: int, session: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return int(fields[3]) == session and fields[0] != "Z"
