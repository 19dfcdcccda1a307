"""Paired timings: what is compared runs in turn, so that a busy machine is busy for both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch


@dataclass(frozen=True)
class Row:
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


def time_in_turn(
    calls: Mapping[str, Callable[[], object]], *, device: str = "cpu", seconds: float = 2.0
) -> dict[str, float]:
    """Median time of each call, in turns until each has run for ``seconds``, at least 3 times.

    Args:
        calls: Name to what is called.
        device: Where they compute; a GPU is waited for.
        seconds: How long each is measured.

    Returns:
        Name to seconds.
    """
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    while any(len(t) < 3 or sum(t) < seconds for t in taken.values()):
        for name, call in calls.items():
            taken[name].append(_once(call, device))
    return {name: median(values) for name, values in taken.items()}


def _once(call: Callable[[], object], device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


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


def peak_extra_bytes(call: Callable[[], object], device: str) -> int | None:
    """Most bytes that a call needs beside what was there before; None where nobody counts."""
    if not device.startswith("cuda"):
        return None
    call()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def to_markdown(title: str, rows: list[Row], *, absolute: bool) -> str:
    """A table; times of a CPU are left out, since they say little about another machine."""
    lines = [f"## {title}", "", "| part | time | against | ratio | note |", "|---|---|---|---|---|"]
    for row in rows:
        taken = f"{1e3 * row.seconds:.3g} ms" if absolute else "-"
        ratio = f"{row.ratio:.3g}" if row.ratio == row.ratio else "-"
        lines.append(f"| {row.part} | {taken} | {row.reference} | {ratio} | {row.note} |")
    return "\n".join(lines) + "\n"
