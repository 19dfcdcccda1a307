"""Step meter: wall time and peak memory of the steps of a long command."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

logger = logging.getLogger(__name__)


class StepMeter:
    """Records what each step of a command took.

    Attributes:
        steps: Name to ``seconds`` (wall clock), ``peak_memory_mib`` (of this process, without
            data loading workers; None where the system does not say) and, with a GPU,
            ``peak_gpu_memory_mib``.
    """

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, Any]] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measures what happens inside and logs it."""
        _forget_peak()
        start = time.monotonic()
        try:
            yield
        finally:
            used: dict[str, Any] = {"seconds": round(time.monotonic() - start, 2)}
            peak = _peak_bytes()
            used["peak_memory_mib"] = None if peak is None else round(peak / 2**20)
            if torch.cuda.is_available():
                used["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
            self.steps[name] = used
            logger.info("%s: %s", name, ", ".join(f"{k} {v}" for k, v in used.items()))


def _forget_peak() -> None:
    """Lets the peak start afresh; where the system cannot, peaks are those since the start."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_bytes() -> int | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    # Units: getrusage counts in KiB on Linux and in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
