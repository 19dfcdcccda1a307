"""The predictor: its time against the bare network's, and its memory by the size of images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import torch

import vice
from vice.experiments.benchmark.data import texture
from vice.experiments.benchmark.timing import Measurement, time_in_turn
from vice.models.plain import plain
from vice.models.prototypes import Prototypes
from vice.normalize import normalize

_SPEC = "random:resnet18-fpn-{dim}"
_CLUSTERS = 27
#: Linux's way of setting the highest resident memory of a process back.
CLEAR = "/proc/self/clear_refs"
#: What is measured in a process of its own: peaks beside the result.
_PROGRAM = """
import json, sys, torch, vice
import numpy as np
asked = json.loads(sys.argv[1])
torch.set_num_threads(1)

def highest():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

predictor = vice.load(asked["spec"], device="cpu")
predictor.embed(np.zeros((64, 64, 3), np.uint8))
concepts = torch.randn(asked["concepts"], predictor.dim)
for side in asked["sides"]:
    image = np.random.default_rng(0).integers(0, 256, (side * 3 // 4, side, 3), np.uint8)
    for memory in asked["memory"]:
        for what, given in (("embed", ()), ("segment", (concepts,))):
            with open("/proc/self/clear_refs", "w") as clear:
                clear.write("5")
            before = highest()
            result = getattr(predictor, what)(image, *given, memory=memory)
            beside = highest() - before - result.nbytes
            tiles = predictor.tiling.tiles if predictor.tiling else (1, 1)
            row = json.dumps([what, side, memory, beside, result.nbytes, tiles])
            sys.stdout.write(f"{row}\\n")
            sys.stdout.flush()
            del result
"""


@torch.no_grad()
def predictor(device: str, *, small: bool) -> list[Measurement]:
    """``embed`` and ``segment`` of an image against the network alone on the same pixels."""
    height, width = (240, 320) if small else (480, 640)
    found = vice.load(_SPEC.format(dim=32 if small else 128), device=device)
    image = texture(height, width)
    batch = normalize(torch.from_numpy(image).permute(2, 0, 1)[None].to(device)).contiguous()
    concepts = Prototypes(found.dim, _CLUSTERS).concepts()
    calls = {
        "network alone": plain()(lambda: found.embedder(batch)),
        "embed, native": lambda: found.embed(image, "native"),
        "segment": lambda: found.segment(image, concepts),
        "embed, image": lambda: found.embed(image),
    }
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds = time_in_turn(calls, device=device, clock=clock, seconds=2.0 if small else 8.0)
    bare = seconds["network alone"]
    note = f"{width} x {height}, D = {found.dim}, K = {_CLUSTERS}"
    return [
        Measurement(name, taken, "network alone", taken / bare, f"{note}; speed {bare / taken:.2f}")
        for name, taken in seconds.items()
    ]


def peaks(device: str, *, small: bool) -> list[Measurement]:
    """Most memory beside the result, as a whole and in tiles, by the size of the image."""
    sides = (500, 1000) if small else (1000, 2000, 3000, 4000)
    rows = []
    for dim, concepts in ((32, 27), (128, 256)):
        for what, side, memory, beside, size, tiles in peak_memory(
            _SPEC.format(dim=dim), concepts, sides, (None, "300MiB" if small else "1GiB")
        ):
            how = "as a whole" if memory is None else f"memory={memory}, {tiles[0]} x {tiles[1]}"
            name = f"{what} {side * 3 // 4} x {side}, D = {dim}, K = {concepts}, {how}"
            note = f"{beside / 2**30:.2f} GiB beside a result of {size / 2**30:.2f}"
            rows.append(Measurement(name, 0.0, note=note))
    return rows


def peak_memory(
    spec: str, concepts: int, sides: Sequence[int], memory: Sequence[int | str | None]
) -> list[tuple[str, int, int | str | None, int, int, tuple[int, int]]]:
    """Peaks of resident memory of a process that embeds and segments images on the CPU.

    Args:
        spec: As `vice.load` takes it.
        concepts: How many.
        sides: Widths of the images, in pixels; they are three quarters as high.
        memory: What is given to the predictor.

    Returns:
        Of each call its name, the width, the memory given, bytes beside the result, those of the
        result, and the tiles.
    """
    asked = {"spec": spec, "concepts": concepts, "sides": list(sides), "memory": list(memory)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(asked)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]
