"""Most memory that a call needs, on a GPU or a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_extra_bytes(call: Callable[[], object], device: str) -> int:
    """Most bytes of tensors that a call needs at a time beside what was there before.

    On a GPU PyTorch's allocator counts them; on a CPU every allocation is recorded and added up
    in the order of time (temporary tensors inside an operation as well). What a library takes
    for itself, for example workspaces of cuSPARSE or MKL, is not counted.
    """
    call()
    if not device.startswith("cuda"):
        return _peak_on_cpu(call)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _peak_on_cpu(call: Callable[[], object]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    events = [
        (event.start_ns(), event.nbytes())
        for event in recorded.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    # Ties: events of one moment have no order; the allocation first errs on the safe side.
    live = peak = 0
    for _, size in sorted(events, key=lambda event: (event[0], -event[1])):
        live += size
        peak = max(peak, live)
    return peak
