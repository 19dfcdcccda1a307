"""Trainings that are stopped at drawn moments, or lose what they stand on while they run.

Each case runs a real training of seconds while its files are laid, and then looks at what was said
and what is left.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from tests.helpers.forked import Forked
from tests.helpers.kills import ENVIRONMENT, REPO
from tests.helpers.stops import (
    PERSONAL,
    Outcome,
    Stop,
    after,
    at_file,
    at_once,
    drawn_delay,
    length,
    stopped,
    wrong,
)
from tests.hostile.case import Action, Expected, Family, Make
from tests.plugins.vissl.conftest import overrides, write_images

Rng = np.random.Generator
GROUP = "stops"
SHARE = 0.02


def _signal(rng: Rng) -> str:
    return str(rng.choice([*PERSONAL, "SIGTERM", "SIGUSR1"]))


def _starting(rng: Rng) -> Stop:
    return Stop(_signal(rng), at_once, drawn_delay(rng, 1.5))


def _first_images(rng: Rng) -> Stop:
    return Stop(_signal(rng), at_file("architecture.json"), drawn_delay(rng, 0.2))


def _first_step(rng: Rng) -> Stop:
    return Stop(_signal(rng), after(1))


def _mid_epoch(rng: Rng) -> Stop:
    return Stop(_signal(rng), after(int(rng.integers(2, 16))), drawn_delay(rng, 0.1))


def _writing(rng: Rng) -> Stop:
    every = "config.CHECKPOINT.CHECKPOINT_ITER_FREQUENCY=1"
    return Stop(_signal(rng), at_file("model*.part"), more=(every,))


def _epoch_ends(rng: Rng) -> Stop:
    epoch = int(rng.integers(0, 3))
    return Stop(_signal(rng), at_file(f"model_phase{epoch}.torch"), drawn_delay(rng, 0.05))


def _export(rng: Rng) -> Stop:
    return Stop(_signal(rng), at_file("vice.safetensors*.part"))


def _very_end(rng: Rng) -> Stop:
    return Stop(_signal(rng), at_file("model_final*"), drawn_delay(rng, 0.3))


def _insisted(rng: Rng) -> Stop:
    return Stop("SIGINT", after(int(rng.integers(1, 10))), times=2)


def _asked_again(rng: Rng) -> Stop:
    """Also while the processes end that have saved themselves."""
    name = str(rng.choice(["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP"]))
    pause, group, ranks = drawn_delay(rng, 3.0), bool(rng.integers(2)), int(rng.integers(1, 3))
    moment = after(int(rng.integers(1, 10)))
    return Stop(name, moment, times=3, pause=pause, group=group, ranks=ranks)


def _one_process(rng: Rng) -> Stop:
    return Stop(_signal(rng), after(int(rng.integers(1, 16))), group=False)


def _two_ranks(rng: Rng) -> Stop:
    return Stop(_signal(rng), after(int(rng.integers(1, 12))), ranks=2, group=bool(rng.integers(2)))


def _two_ranks_starting(rng: Rng) -> Stop:
    return Stop(str(rng.choice(PERSONAL)), at_once, drawn_delay(rng, 4.0), ranks=2)


def _two_ranks_insisted(rng: Rng) -> Stop:
    return Stop("SIGINT", after(int(rng.integers(1, 8))), ranks=2, times=2)


def _stop(draw: Callable[[Rng], Stop], folder: Path, rng: Rng) -> Action:
    out = folder / "run"
    stop = draw(rng)
    outcome = stopped(overrides(write_images(folder / "images"), out), out, stop)
    return Action(run=lambda: outcome, check=lambda found: wrong(found, out))


def _lost(take: Callable[[Path, int], object], names: tuple[str, ...], folder: Path, rng: Rng):
    """Something is taken from a training that runs; it is to end with one line about it."""
    images, out = write_images(folder / "images"), folder / "run"
    keep = "config.VICE.SUPERPIXELS.cache_dir=null"
    command = [REPO / "tools" / "run_distributed.py", *overrides(images, out), *length(1), keep]
    # Kept images: of so few none would be read again.
    command += ["config.OPTIMIZER.num_epochs=12", "config.VICE.DATASET.keep_mib=0"]
    process = Forked(command, own_session=True, real_spawn=True, **ENVIRONMENT)
    step, until = int(rng.integers(1, 8)), time.monotonic() + 100
    while process.running() and time.monotonic() < until and not after(step)(out):
        time.sleep(0.002)
    take(folder, process.pid)
    done = process.wait(200)
    outcome = Outcome(done.returncode, done.stdout, done.stderr, (), 0.0)

    def check(found: Outcome) -> str | None:
        words = found.said()
        # A loading process that had handed over its last batch is not missed.
        if found.status == 0 and names is _MEMORY:
            return wrong(found, out)
        if found.status != 2 or len(words) != 1 or not words[0].startswith("error: "):
            return f"status {found.status}, said {found.stderr[-1500:]}"
        return None if all(name in words[0] for name in names) else f"no {names} in {words[0]}"

    return Action(run=lambda: outcome, check=check)


def _kill_worker(number: int, folder: Path, process: int) -> None:
    # An epoch's loading processes come and go.
    for _ in range(1000):
        with suppress(OSError):
            children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
            loading = [int(child) for child in children if not _is_helper(child)]
            if loading:
                os.kill(loading[-1], number)
                return
        time.sleep(0.01)


def _is_helper(process: str) -> bool:
    """Whether a process is Python's own, which clears up after others."""
    return b"resource_tracker" in Path(f"/proc/{process}/cmdline").read_bytes()


def _remove(name: str, folder: Path, process: int) -> None:
    del process
    (folder / name).rename(folder / "elsewhere")
    shutil.rmtree(folder / "elsewhere", ignore_errors=True)


_MEMORY = ("memory", "/dev/shm", "NUM_DATALOADER_WORKERS")
_DRAWN: dict[str, Callable[[Rng], Stop]] = {
    "starting": _starting,
    "first-images": _first_images,
    "first-step": _first_step,
    "mid-epoch": _mid_epoch,
    "writing": _writing,
    "epoch-ends": _epoch_ends,
    "export": _export,
    "very-end": _very_end,
    "insisted": _insisted,
    "asked-again": _asked_again,
    "one-process": _one_process,
    "two-ranks": _two_ranks,
    "two-ranks-starting": _two_ranks_starting,
    "two-ranks-insisted": _two_ranks_insisted,
}
_LOST: dict[str, Make] = {
    "worker-killed": partial(_lost, partial(_kill_worker, signal.SIGKILL), _MEMORY),
    "worker-bus-error": partial(_lost, partial(_kill_worker, signal.SIGBUS), _MEMORY),
    "worker-crashed": partial(_lost, partial(_kill_worker, signal.SIGSEGV), _MEMORY),
    "run-folder-deleted": partial(_lost, partial(_remove, "run"), ("run", "deleted")),
    "images-deleted": partial(_lost, partial(_remove, "images"), ("images", "DATA_PATHS")),
}
_GENERATORS: dict[str, tuple[Expected, Make]] = {
    **{name: ("worked", partial(_stop, draw)) for name, draw in _DRAWN.items()},
    **{name: ("worked", make) for name, make in _LOST.items()},
}
FAMILY = Family(GROUP, _GENERATORS)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn
