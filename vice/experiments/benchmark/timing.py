"""Paired timings: what is compared runs in turn, so that a busy machine is busy for both."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from vice.errors import one_line

logger = logging.getLogger(__name__)
#: What a part that raised leaves as its one row.
FAILED = "failed"
#: Least seconds of one turn of a call.
TURN = 0.02
#: What is installed under another name than it is imported.
PACKAGES = {
    "faiss": "faiss-cpu",
    "cv2": "opencv-contrib-python-headless",
    "skimage": "scikit-image",
}


@dataclass(frozen=True)
class Measurement:
    """One line of the report.

    Attributes:
        part: What was measured.
        seconds: Median time of one call.
        reference: What it is compared with.
        ratio: Its time over the reference's; below 1 is faster.
        note: Whatever else belongs to it, for example memory.
    """

    part: str
    seconds: float
    reference: str = ""
    ratio: float = float("nan")
    note: str = ""


def measured(
    part: Callable[..., list[Measurement]], device: str, **options: Any
) -> list[Measurement]:
    """Rows of a part, or one that names the package it needs, or says how it failed.

    Args:
        part: What is measured.
        device: Where it computes.
        **options: Those of the part.
    """
    try:
        return part(device, **options)
    except ModuleNotFoundError as error:
        package = PACKAGES.get(str(error.name), error.name)
        return [
            Measurement(f"skipped: no {error.name}", 0.0, note=f"needs `pip install {package}`")
        ]
    except Exception as error:
        # Catch-all: what the other parts measure must not be lost with it.
        logger.exception("this part failed; the others go on")
        return [Measurement(FAILED, 0.0, note=f"{type(error).__name__}: {one_line(error)}")]


def time_in_turn(
    calls: Mapping[str, Callable[[], object]],
    *,
    device: str = "cpu",
    seconds: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median time of each call, in turns until the slowest has run for ``seconds``; 3 at least.

    A turn of a quick call repeats it for at least ``TURN`` seconds.

    Args:
        calls: Name to what is called.
        device: Where they compute; a GPU is waited for.
        seconds: How long the slowest is measured.
        clock: What seconds are read from; `time.process_time` leaves out what others compute.

    Returns:
        Name to seconds.
    """
    for call in calls.values():
        call()
    repeats = {
        name: max(1, int(TURN / _turn(call, 1, device, clock))) for name, call in calls.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    rounds, slowest = 0, 0.0
    while rounds < 3 or slowest < seconds:
        for name, call in calls.items():
            taken[name].append(_turn(call, repeats[name], device, clock))
        rounds += 1
        slowest = max(sum(values) for values in taken.values())
    return {name: median(values) for name, values in taken.items()}


def _turn(
    call: Callable[[], object], repeats: int, device: str, clock: Callable[[], float]
) -> float:
    """Seconds of one call, averaged over a turn."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = clock()
    for _ in range(repeats):
        call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return (clock() - start) / repeats


def device_seconds(call: Callable[[], object], repeats: int = 10) -> float:
    """Seconds that a GPU's kernels take in one call, whatever the host takes to launch them."""
    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        for _ in range(repeats):
            call()
        torch.cuda.synchronize()
    taken = [
        entry.self_device_time_total
        for entry in recorded.key_averages()
        if entry.device_type == torch.autograd.DeviceType.CUDA
    ]
    return float(sum(taken)) / 1e6 / repeats


@contextmanager
def one_core() -> Iterator[None]:
    """Lets PyTorch and OpenCV compute with one thread, as a data loading process does."""
    import cv2

    threads, others = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(others)


def to_markdown(title: str, rows: list[Measurement], *, absolute: bool) -> str:
    """A table; times of a CPU are left out, since they say little about another machine."""
    lines = [f"## {title}", "", "| part | time | against | ratio | note |", "|---|---|---|---|---|"]
    for row in rows:
        taken = f"{1e3 * row.seconds:.3g} ms" if absolute else "-"
        ratio = f"{row.ratio:.3g}" if row.ratio == row.ratio else "-"
        lines.append(f"| {row.part} | {taken} | {row.reference} | {ratio} | {row.note} |")
    return "\n".join(lines) + "\n"
