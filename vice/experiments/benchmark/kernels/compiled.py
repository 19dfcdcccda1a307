"""What compiled kernels say without a GPU: resources, instructions, and a least time on an H100."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vice.errors import UserError
from vice.experiments.benchmark.data import block_regions
from vice.experiments.benchmark.kernels.sass import Code
from vice.experiments.benchmark.timing import Measurement

if TYPE_CHECKING:
    from vice.experiments.benchmark.kernels.launches import Launch

#: Dimensions, and prototypes too; pixels of a view and of a region.
DIM, SIDE, REGION = 128, 400, 20
#: NVIDIA's figures of an H100 SXM: multiprocessors, clock, memory, and of each multiprocessor
#: schedulers, registers, warps, programs and bytes of shared memory.
PROCESSORS, HERTZ, MEMORY = 132, 1.755e9, 3.35e12
SCHEDULERS, REGISTERS, WARPS, PROGRAMS, SHARED = 4, 65536, 64, 32, 228 * 1024
#: Clocks of a multiprocessor for a shuffle and for a reduction of a warp.
SHUFFLE, REDUX = 1, 2
#: Bytes a clock of the second-level cache: what is said of the A100, none is said of the H100.
CACHE = 5120


def occupancy(registers: int, shared: int, warps: int) -> int:
    """Programs that are resident on a multiprocessor at a time.

    Args:
        registers: A thread's.
        shared: Bytes of a program.
        warps: Of a program.
    """
    # Occupancy: each scheduler has a quarter of the registers and gives them out by 256 a warp.
    by_registers = REGISTERS // SCHEDULERS // (32 * -(-registers // 8) * 8) * SCHEDULERS // warps
    by_memory = SHARED // (shared + 1024)
    return min(PROGRAMS, WARPS // warps, by_registers, by_memory)


def regions_a_block(regions: Tensor, stride: int) -> float:
    """Mean number of regions among the pixels between the same four cells, over all blocks."""
    maps, height, width = regions.shape
    # Half-pixel centers: they lie half a cell off.
    y, x = ((torch.arange(side) + stride - stride // 2) // stride for side in (height, width))
    block = y[:, None] * (width // stride + 1) + x
    numbers = (torch.arange(maps)[:, None, None] << 40) | (block << 20) | regions.long()
    blocks = maps * (height // stride + 1) * (width // stride + 1)
    return len(numbers[regions >= 0].unique()) / blocks


def least_seconds(code: Code, programs: int, warps: int, tensors: int) -> dict[str, float]:
    """What each resource needs at least for a launch; the greatest of them is a lower bound.

    Args:
        code: Of the kernel, its loops with their trips.
        programs: Of the launch.
        warps: Of a program.
        tensors: Bytes of all arguments that are read or written as a whole, once each.
    """
    executed, running = code.executed(), programs * warps
    clocks = PROCESSORS * HERTZ
    shuffles = SHUFFLE * executed["shuffle"] + REDUX * executed["redux"]
    return {
        "issue": running * executed["all"] / SCHEDULERS / clocks,
        "shuffles": running * shuffles / clocks,
        "atomics": running * code.bytes_of("atomic") / CACHE / HERTZ,
        "memory": tensors / MEMORY,
    }


def kernels(device: str, *, small: bool) -> list[Measurement]:
    """Every kernel of a step at the paper's size, compiled for sm_90, and a bound of its time.

    20 views of 400 pixels, 128 dimensions at stride 4 (two views where it is small, with the same
    code). The bound is worked out from the compiled code: nothing is run, and latency, conflicts
    and caches that miss come on top. The floor is a copy of Y at the memory's full speed.
    """
    del device
    from vice.experiments.benchmark.kernels.launches import WAYS

    regions = block_regions(2 if small else 20, SIDE, REGION, "cpu").int()
    crossed = regions_a_block(regions, 4)
    rows = [Measurement("regions a block", 0.0, note=f"{crossed:.3g}: trips of the loop over them")]
    try:
        for way in WAYS:
            for dtype in (torch.float32, torch.bfloat16):
                rows += _of_way(way, regions, dtype, crossed)
    except UserError as error:
        rows.append(Measurement("skipped", 0.0, note=str(error)))
    return rows


def _of_way(way: str, regions: Tensor, dtype: torch.dtype, crossed: float) -> list[Measurement]:
    from vice.experiments.benchmark.kernels import launches

    by_name: dict[str, list[Launch]] = defaultdict(list)
    for launch in launches.launches(way, regions, dim=DIM, dtype=dtype):
        by_name[launch.name].append(launch)
    floor = 2 * regions[:, ::4, ::4].numel() * DIM * dtype.itemsize / MEMORY
    rows, total, label = [], 0.0, str(dtype).removeprefix("torch.")
    for name, same in by_name.items():
        kernel = launches.compiled(same[0])
        code, warps = launches.disassembled(kernel), kernel.metadata.num_warps
        _set_trips(code, same[0], crossed)
        needed: Counter[str] = Counter()
        for launch in same:
            programs = math.prod(launch.grid)
            # Memory traffic: programs that handle a region each read but a few cells.
            tensors = launch.bytes_of_tensors() if len(launch.grid) > 1 else 0
            needed.update(least_seconds(code, programs, warps, tensors))
        bound = max(needed.values())
        total += bound
        title = f"{way}, {name}, {label}"
        rows.append(Measurement(f"{title}: compiled", 0.0, note=_resources(code, warps)))
        shares = ", ".join(f"{what} {seconds / floor:.2g}" for what, seconds in needed.items())
        note = f"the greatest of {shares}; {code.executed()['all']:.0f} instructions a warp"
        rows.append(Measurement(f"{title}: lower bound", bound, "floor", bound / floor, note))
    title = f"{way}, all kernels, {label}"
    note = "not a measurement; without what is not a kernel of ViCE"
    rows.append(Measurement(f"{title}: lower bound", total, "floor", total / floor, note))
    return rows


def _set_trips(code: Code, launch: Launch, crossed: float) -> None:
    """How often each loop runs.

    Along the blocks of a row, over the regions of a block, over tiles of numbers, or where cells
    cancel (not at all).
    """
    around = {id(loop.within) for loop in code.loops}
    for loop in code.loops:
        if id(loop) in around:
            loop.trips = (SIDE // 4 + 1) / launch.grid[0]
        elif "WIDE" in launch.named and not loop.adds:
            loop.trips = -(-DIM // launch.named["WIDE"])
        else:
            loop.trips = crossed if loop.touches_memory else 0.0


def _resources(code: Code, warps: int) -> str:
    programs = occupancy(code.registers, code.shared, warps)
    counted = code.static()
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))
    return (
        f"{code.registers} registers, {code.stack} bytes spilled, {code.shared} bytes shared, "
        f"{programs * warps} of {WARPS} warps on a multiprocessor in programs of {warps}; {kinds}"
    )
