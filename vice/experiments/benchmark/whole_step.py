"""A step of a whole training against the fastest bare forward and backward pass of its network."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from vice.experiments.benchmark.timing import Measurement
from vice.experiments.demo.mosaics import make_mosaics
from vice.models import build_embedder
from vice.models.execution import AUTO, Execution
from vice.models.execution_probe import fastest, one_step
from vice.models.plain import plain
from vice.paths import tool
from vice.runtime.overrides import quote
from vice.runtime.run_folder import LOG_NAME, read_config

CONFIGS = ("vice/demo", "vice/folder", "vice/folder_imagenet")
#: Images, and steps that are not counted, those of the first epoch, which finds superpixels.
IMAGES, WARM_UP = 240, 60
#: Turns, and seconds in each of the bare network and of the training.
TURNS, BARE_SECONDS, TRAINING_SECONDS = 16, 1.5, 4.0
#: A line of the log that every step leaves.
_STEP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) .*health: ", re.MULTILINE)


def whole_step(device: str, *, small: bool) -> list[Measurement]:
    """Trains on mosaics as ``tools/run_distributed.py`` does, with what belongs to it.

    What is timed goes from one step to the next, reading and drawing of views, pictures, saving and
    the beginning of epochs included. Training and bare network take turns of seconds, in which the
    other is stopped, so that whatever else the machine is busy with falls on both; and the mean of
    the one is held against the mean of the other. The bare network is computed as its modules are,
    with nothing folded.

    Args:
        device: Where it trains.
        small: ``vice/demo`` alone, and fewer turns.
    """
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = make_mosaics(folder / "data", train=60 if small else IMAGES, val=0)
        for config in CONFIGS[:1] if small else CONFIGS:
            training = Training(config, data / "images" / "train", folder / Path(config).name)
            rows += _rows(training, device, 3 if small else TURNS)
    return rows


class Training:
    """A training that goes on until it is killed, and can be stopped meanwhile.

    Args:
        config: Name of the configuration.
        images: Folder.
        run: The run folder.
    """

    def __init__(self, config: str, images: Path, run: Path) -> None:
        self.config, self.images, self.run = config, images, run
        self.stopped: list[tuple[float, float]] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, device: str) -> None:
        """Starts it, and lets it take `WARM_UP` steps."""
        command = [
            sys.executable,
            str(tool("run_distributed.py")),
            f"config={self.config}",
            f"config.DATA.TRAIN.DATA_PATHS=[{quote(self.images)}]",
            f"config.CHECKPOINT.DIR={quote(self.run)}",
            f"config.MACHINE.DEVICE={'cpu' if device == 'cpu' else 'gpu'}",
            # Longer than it is looked at.
            "config.OPTIMIZER.num_epochs=1000",
            # Speed is that of any weights.
            "config.MODEL.TRUNK.VICE.weights=null",
            "config.LOG_FREQUENCY=1",
        ]
        # A file: nobody reads meanwhile, and a full pipe would hold the training up.
        errors = self.run.with_suffix(".err")
        with errors.open("wb") as file:
            self._process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=file, start_new_session=True
            )
        while len(self.steps()) < WARM_UP:
            if self._process.poll() is not None:
                said = errors.read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"{self.config}: training ended: {said[-500:]}")
            time.sleep(0.2)

    def aside(self, measure: Callable[[], None]) -> None:
        """Does something while the training is stopped."""
        begun = time.time()
        self._signal(signal.SIGSTOP)
        try:
            measure()
        finally:
            self._signal(signal.SIGCONT)
        self.stopped.append((begun, time.time()))

    def kill(self) -> None:
        """Ends it."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._signal(signal.SIGKILL)
            self._process.wait()

    def steps(self) -> list[float]:
        """When each step was over, in seconds since 1970."""
        with suppress(FileNotFoundError):
            text = (self.run / LOG_NAME).read_text(encoding="utf-8", errors="replace")
            return [
                datetime.strptime(each, "%Y-%m-%d %H:%M:%S,%f").timestamp()
                for each in _STEP.findall(text)
            ]
        return []

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)


@dataclass
class Bare:
    """The network alone.

    Attributes:
        step: Takes one step of it.
        taken: Seconds of each.
    """

    step: Callable[[], None]
    taken: list[float]

    def take(self) -> None:
        """Steps for some seconds; the first one is not counted."""
        self.step()
        begun = time.perf_counter()
        while time.perf_counter() - begun < BARE_SECONDS:
            before = time.perf_counter()
            self.step()
            self.taken.append(time.perf_counter() - before)


def _rows(training: Training, device: str, turns: int) -> list[Measurement]:
    ways = dict[Execution, float]()
    bare = Bare(lambda: None, [])
    # Session of its own: a Ctrl-C does not reach the training, which goes on until it is killed.
    try:
        training.start(device)

        def prepare() -> None:
            network, batch = _bare(read_config(training.run), device)
            with plain():
                ways.update(fastest(network, [batch], Execution(AUTO, AUTO).choices())[1])
            best = min(ways, key=lambda way: ways[way])
            bare.step = plain()(one_step(best, network, [batch]))
            bare.step()

        training.aside(prepare)
        for _ in range(turns):
            time.sleep(TRAINING_SECONDS)
            training.aside(bare.take)
    finally:
        training.kill()
    taken, steps = seconds_a_step(training.steps(), training.stopped)
    trunk = read_config(training.run)["MODEL"]["TRUNK"]["EXECUTION"]
    trained = Execution(trunk["precision"], trunk["channels_last"])
    way, first = min(ways, key=lambda way: ways[way]), next(iter(ways))
    alone = fmean(bare.taken)
    note = f"{steps} steps in {trained}, {len(bare.taken)} of the network in {way}, in turns; means"
    return [
        Measurement(
            f"{training.config}: a step, whole program", taken, "network alone", taken / alone, note
        )
    ] + [
        Measurement(
            f"{training.config}: network alone, {each}", seconds, "float32", seconds / ways[first]
        )
        for each, seconds in ways.items()
        if isfinite(seconds)
    ]


def _bare(settings: dict[str, Any], device: str) -> tuple[nn.Module, Tensor]:
    """A network as that of a training, and a batch as large."""
    views, trunk = settings["VICE"]["VIEWS"], settings["MODEL"]["TRUNK"]["VICE"]
    height, width = views["size"] if isinstance(views["size"], list) else [views["size"]] * 2
    count = views["num_views"] * settings["DATA"]["TRAIN"]["BATCHSIZE_PER_REPLICA"]
    network = build_embedder(**{**trunk, "weights": None}).to(device)
    return network, torch.randn(count, 3, height, width, device=device)


def seconds_a_step(steps: list[float], stopped: list[tuple[float, float]]) -> tuple[float, int]:
    """Mean seconds from one step to the next, and how many were counted.

    Args:
        steps: When each was over.
        stopped: From when to when the training was stopped; steps before the end of the first such
            time do not count, nor that time.
    """
    counted = [step for step in steps if stopped[0][1] <= step <= stopped[-1][0]]
    begun, over = counted[0], counted[-1]
    lost = sum(end - start for start, end in stopped if begun < start and end < over)
    return (over - begun - lost) / (len(counted) - 1), len(counted) - 1
