"""A step of a whole training against the fastest bare forward and backward pass of its network."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import tempfile
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from vice.experiments.benchmark.timing import Measurement
from vice.experiments.demo.mosaics import make_mosaics
from vice.models import build_embedder
from vice.models.execution import AUTO, Execution
from vice.models.execution_probe import fastest
from vice.paths import tool
from vice.runtime.overrides import quote
from vice.runtime.run_folder import LOG_NAME, read_config

logger = logging.getLogger(__name__)

CONFIGS = ("vice/demo", "vice/folder", "vice/folder_imagenet")
#: Images, which a step has ten of, epochs, and steps that are not counted.
IMAGES, EPOCHS, WARM_UP = 240, 4, 10
#: A line of the log that every step leaves.
_STEP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) .*health: ", re.MULTILINE)


def whole_step(device: str, *, small: bool) -> list[Measurement]:
    """Trains on mosaics as ``tools/run_distributed.py`` does, with what belongs to it.

    What is timed goes from one step to the next, reading and drawing of views, saving and the
    beginning of epochs included. What it is held against is timed right after it.

    Args:
        device: Where it trains.
        small: ``vice/demo`` alone, and fewer steps.
    """
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = make_mosaics(folder / "data", train=60 if small else IMAGES, val=0)
        for config in CONFIGS[:1] if small else CONFIGS:
            rows += _rows(config, data / "images" / "train", folder / Path(config).name, device)
    return rows


def _rows(config: str, images: Path, run: Path, device: str) -> list[Measurement]:
    command = [
        sys.executable,
        str(tool("run_distributed.py")),
        f"config={config}",
        f"config.DATA.TRAIN.DATA_PATHS=[{quote(images)}]",
        f"config.CHECKPOINT.DIR={quote(run)}",
        f"config.MACHINE.DEVICE={'cpu' if device == 'cpu' else 'gpu'}",
        f"config.OPTIMIZER.num_epochs={EPOCHS}",
        "config.VICE.DATASET.min_images_per_epoch=240",
        # Speed is that of any weights.
        "config.MODEL.TRUNK.VICE.weights=null",
        "config.LOG_FREQUENCY=1",
    ]
    subprocess.run(command, check=True, capture_output=True)
    settings = read_config(run)
    taken, steps = _seconds_of_steps(run / LOG_NAME)
    bare = _bare(settings, device)
    way, least = min(bare.items(), key=lambda each: each[1])
    trunk = settings["MODEL"]["TRUNK"]["EXECUTION"]
    trained = Execution(trunk["precision"], trunk["channels_last"])
    note = f"{steps} steps, computed in {trained}; fastest alone: {way}"
    return [
        Measurement(f"{config}: a step, whole program", taken, "network alone", taken / least, note)
    ] + [
        Measurement(f"{config}: network alone, {each}", seconds, "float32", seconds / bare[plain])
        for plain in [next(iter(bare))]
        for each, seconds in bare.items()
        if isfinite(seconds)
    ]


def _bare(settings: dict[str, Any], device: str) -> dict[Execution, float]:
    """Seconds of forward and backward in every way, infinite for those not worth trying."""
    views, trunk = settings["VICE"]["VIEWS"], settings["MODEL"]["TRUNK"]["VICE"]
    height, width = views["size"] if isinstance(views["size"], list) else [views["size"]] * 2
    count = views["num_views"] * settings["DATA"]["TRAIN"]["BATCHSIZE_PER_REPLICA"]
    network = build_embedder(**{**trunk, "weights": None}).to(device)
    batch = torch.randn(count, 3, height, width, device=device)
    return fastest(network, [batch], Execution(AUTO, AUTO).choices())[1]


def _seconds_of_steps(log: Path) -> tuple[float, int]:
    """Mean seconds from one step to the next, and how many were counted."""
    lines = _STEP.findall(log.read_text(encoding="utf-8", errors="replace"))[WARM_UP:]
    times = [datetime.strptime(line, "%Y-%m-%d %H:%M:%S,%f") for line in lines]
    steps = len(times) - 1
    return (times[-1] - times[0]).total_seconds() / steps, steps
