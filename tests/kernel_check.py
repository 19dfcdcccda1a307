"""Compares the Triton kernels with the plain path; run by test_kernels.py in a process of its own.

Without a GPU the kernels run in Triton's interpreter, which has to be asked for before Triton is
imported. Prints one JSON line: for each case the greatest errors relative to the greatest value.
"""

from __future__ import annotations

import json
import os
import sys

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"

from vice.kernels import FusedMeans  # noqa: E402
from vice.pooling import PooledMeans  # noqa: E402
from vice.regions import index_regions  # noqa: E402

#: maps, width, cells, pixels, side of a block of one region
LAYOUTS = {
    "four to one": (2, 16, (3, 4), (12, 16), 3),
    "ragged": (2, 12, (4, 3), (13, 11), 2),
    "as many pixels as cells": (1, 5, (4, 5), (4, 5), 1),
    "fewer pixels than cells": (2, 7, (7, 6), (4, 3), 1),
    "one cell": (1, 3, (1, 1), (5, 7), 2),
    "two wide": (1, 2, (3, 4), (9, 8), 2),
}
CASES = {
    torch.float32: ("plain", "channels_last", "cancelling", "sliced"),
    torch.bfloat16: ("plain",),
    torch.float16: ("channels_last",),
}


def regions_of(layout: tuple, generator: torch.Generator) -> torch.Tensor:
    maps, _, _, (height, width), side = layout
    coarse = torch.randint(-1, 5, (maps, height, width), generator=generator)
    regions = coarse.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, :height, :width]
    if maps > 1:
        regions[-1] = -1
    regions[0, 0, 0] = 65535
    return regions.contiguous()


def compare(layout: tuple, dtype: torch.dtype, options: dict, seed: int, like: str) -> dict:
    generator = torch.Generator().manual_seed(seed)
    maps, dim, cells, pixels, _ = layout
    embeddings = torch.randn(maps, dim, *cells, generator=generator).to(dtype)
    if like == "channels_last":
        embeddings = embeddings.contiguous(memory_format=torch.channels_last)
    elif like == "cancelling":
        embeddings[:, :, :, 1::2] = -embeddings[:, :, :, : cells[1] // 2 * 2 : 2] * 0.9
    elif like == "sliced":
        embeddings = torch.cat([embeddings, embeddings], 3)[:, :, :, : cells[1]]
    embeddings = embeddings.to(DEVICE).requires_grad_()
    numbered = index_regions(regions_of(layout, generator).to(DEVICE))
    slow = PooledMeans.apply(embeddings.double(), numbered, pixels, options)
    fast = FusedMeans.apply(embeddings, numbered, pixels, options)
    target = torch.randn(slow.shape, generator=generator, dtype=torch.float64).to(DEVICE)
    (expected,) = torch.autograd.grad((slow * target).sum(), embeddings)
    (found,) = torch.autograd.grad((fast * target).sum(), embeddings)
    return {
        "value": float((slow - fast).abs().max() / slow.abs().max()),
        "gradient": float((expected.double() - found.double()).abs().max() / expected.abs().max()),
        "regions": len(slow),
    }


def main() -> None:
    found = {}
    for name, layout in LAYOUTS.items():
        for dtype, cases in CASES.items():
            for number, like in enumerate(cases):
                options = {"normalize": number != 1, "align_corners": number == 2}
                key = f"{name}, {str(dtype).removeprefix('torch.')}, {like}"
                found[key] = compare(layout, dtype, options, number, like)
    empty = index_regions(torch.full((1, 4, 4), -1, device=DEVICE))
    embeddings = torch.randn(1, 4, 2, 2, device=DEVICE, requires_grad=True)
    means = FusedMeans.apply(embeddings, empty, (4, 4), {"normalize": True, "align_corners": False})
    means.sum().backward()
    found["empty"] = {"value": 0.0, "gradient": float(embeddings.grad.abs().max()), "regions": 0}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
