"""Kills real runs at random moments, starts them again, and looks at what becomes of them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file

from tests.helpers.forked import ROOT as REPO
from tests.helpers.forked import Forked
from vice.runtime.health_log import read_health

#: When to kill: seconds after the start, some time into a step, or while a state is written.
MOMENTS = ("starting", "in a step", "writing")
#: Whom: every process at once, only the one that was started, or one that trains.
VICTIMS = ("all", "main", "rank")
#: Steps between two states, short, so that a run gets on between two kills.
STEPS = 2
EPOCHS = 10
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
LONG = (
    "config.VICE.DATASET.min_images_per_epoch=12",
    "config.VICE.SCHEDULE.warmup_epochs=0.5",
)


class Run(Protocol):
    """A training that was started, in a session of its own."""

    #: Its process.
    pid: int
    #: Seconds until it trains, for certain.
    startup: float

    def running(self) -> bool:
        """Whether it has not ended yet."""

    def wait(self, timeout: float) -> int:
        """Its exit status; raises `subprocess.TimeoutExpired`."""

    def ranks(self) -> list[int]:
        """The processes that train, if those are not itself."""


class FreshRun:
    """One whose interpreters start from nothing, as a user's do."""

    startup = 8.0

    def __init__(self, line: list[str], out: Path) -> None:
        with out.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *line],
                env={**os.environ, **ENVIRONMENT},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float) -> int:
        return self._process.wait(timeout)

    def ranks(self) -> list[int]:
        return [child for child in _children(self.pid) if b"spawn_main" in _arguments(child)]


class ForkedRun:
    """One that is spared the imports: the same code is killed, and sooner."""

    startup = 2.0

    def __init__(self, line: list[str], out: Path) -> None:
        self._process, self._log = Forked(line, own_session=True, **ENVIRONMENT), out
        self.pid = self._process.pid
        while self.running() and os.getsid(self.pid) != self.pid:
            time.sleep(0.002)

    def running(self) -> bool:
        return self._process.running()

    def wait(self, timeout: float) -> int:
        done = self._process.wait(timeout)
        with self._log.with_suffix(".log").open("a") as log:
            log.write(done.stdout + done.stderr)
        return done.returncode

    def ranks(self) -> list[int]:
        return [rank for server in _children(self.pid) for rank in _children(server)]


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        moment: Of ``MOMENTS``.
        victim: Of ``VICTIMS``.
        iteration: Last step that had a health record.
        half_written: Files that were being written.
    """

    moment: str
    victim: str
    iteration: int
    half_written: int


def command(arguments: list[str], ranks: int, epochs: int = EPOCHS) -> list[str]:
    """The training command of so many ranks with the same images a step."""
    return [
        str(REPO / "tools" / "run_distributed.py"),
        *arguments,
        *LONG,
        f"config.OPTIMIZER.num_epochs={epochs}",
        f"config.CHECKPOINT.CHECKPOINT_ITER_FREQUENCY={STEPS}",
        f"config.DISTRIBUTED.NUM_PROC_PER_NODE={ranks}",
        f"config.DATA.TRAIN.BATCHSIZE_PER_REPLICA={2 // ranks}",
    ]


def kill_and_resume(
    arguments: list[str],
    out: Path,
    ranks: int,
    kills: int,
    seed: int,
    epochs: int = EPOCHS,
    start: type[FreshRun] | type[ForkedRun] = FreshRun,
) -> Iterator[Kill]:
    """Trains into a folder and kills the run again and again; in the end lets it finish.

    Args:
        arguments: Hydra overrides.
        out: The run folder that they name.
        ranks: 1 or 2.
        kills: How often, unless the training is done before.
        seed: Of the moments.
        epochs: Length of the training; one takes six steps.
        start: How it is started.

    Yields:
        Each kill that hit a running training.
    """
    rng = random.Random(seed)
    line = command(arguments, ranks, epochs)
    for _ in range(kills):
        moment = rng.choice(MOMENTS)
        victim = rng.choice(VICTIMS if ranks > 1 else VICTIMS[:1])
        process = start(line, out)
        if not _reach(moment, process, out, rng):
            break
        half = len(list(out.glob("*.part")))
        _kill(process, victim, rng)
        yield Kill(moment, victim, _iteration(out), half)
        if victim != "main":
            _end(process)
    status = start(line, out).wait(timeout=300)
    log = out.with_suffix(".log").read_text()
    assert status == 0, log[-3000:]


def undisturbed(arguments: list[str], out: Path, ranks: int, epochs: int = EPOCHS) -> None:
    """Trains into a folder without a kill."""
    assert ForkedRun(command(arguments, ranks, epochs), out).wait(timeout=300) == 0


def differences(one: Path, two: Path) -> list[str]:
    """Names of all tensors that are not the same to the last bit in two finished runs.

    The exported weights are compared, and the whole state of training: weights, optimizer, queue.
    """
    weights = load_file(two / "vice.safetensors")
    found = [
        f"{name} of the exported weights"
        for name, value in load_file(one / "vice.safetensors").items()
        if not torch.equal(value, weights[name])
    ]
    states = [
        torch.load(next(folder.glob("model_final*")), weights_only=True) for folder in (one, two)
    ]
    return found + list(_differ(*(_comparable(state) for state in states), ""))


def _comparable(state: dict) -> dict:
    classy = state["classy_state_dict"]
    kept = {name: classy[name] for name in ("base_model", "optimizer", "loss")}
    return {**kept, "queue": state["loss"], "random": state["vice"]["random"]}


def _differ(one: object, two: object, name: str) -> Iterator[str]:
    if isinstance(one, torch.Tensor):
        if not torch.equal(one, two):
            yield name
    elif isinstance(one, dict):
        for key in one:
            yield from _differ(one[key], two[key], f"{name}.{key}")
    elif isinstance(one, (list, tuple)):
        for number, (left, right) in enumerate(zip(one, two, strict=True)):
            yield from _differ(left, right, f"{name}.{number}")
    elif one != two:
        yield name


def _reach(moment: str, process: Run, out: Path, rng: random.Random) -> bool:
    """Waits for the moment; whether the training still runs then."""
    until, begun = time.monotonic() + 120, _iteration(out)
    delay = rng.uniform(0.0, process.startup) if moment == "starting" else rng.uniform(0.0, 0.3)
    steps = rng.randint(1, 2 * STEPS)
    if moment == "starting":
        time.sleep(delay)
        return process.running()
    while time.monotonic() < until and process.running():
        if moment == "writing" and _iteration(out) > begun and any(out.glob("model*.part")):
            return True
        if moment == "in a step" and _iteration(out) >= begun + steps:
            time.sleep(delay)
            return process.running()
        time.sleep(0.001)
    assert not process.running(), f"no moment {moment!r} came within two minutes"
    return False


def _kill(process: Run, victim: str, rng: random.Random) -> None:
    trainers = process.ranks()
    if victim == "rank" and trainers:
        os.kill(rng.choice(trainers), signal.SIGKILL)
    elif victim == "main":
        os.kill(process.pid, signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in found]
    return []


def _arguments(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def _end(process: Run) -> None:
    """Waits until a killed run is gone, as a cluster manager does."""
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError("a run that lost a rank did not end within a minute") from None


def _iteration(out: Path) -> int:
    records = read_health(out)
    return int(records[-1]["iteration"]) if records else -1
