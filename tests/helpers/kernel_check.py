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

from vice.regions import index_regions  # noqa: E402
from vice.regions.kernels import FusedMeans, FusedRepresentatives  # noqa: E402
from vice.regions.means import PooledMeans  # noqa: E402
from vice.regions.representatives import Representatives  # noqa: E402

#: maps, width, cells, pixels, side of a block of one region
LAYOUTS = {
    "four to one": (2, 16, (3, 4), (12, 16), 3),
    "ragged": (2, 12, (4, 3), (13, 11), 2),
    "as many pixels as cells": (1, 5, (4, 5), (4, 5), 1),
    "fewer pixels than cells": (2, 7, (7, 6), (4, 3), 1),
    "one cell": (1, 3, (1, 1), (5, 7), 2),
    "few pixels": (2, 7, (4, 3), (3, 2), 1),
    "two wide": (1, 2, (3, 4), (9, 8), 2),
    "two tiles": (1, 40, (2, 3), (8, 6), 3),
    "two stretches": (1, 6, (2, 11), (4, 22), 2),
}
CASES = {
    torch.float32: ("plain", "channels_last", "cancelling", "sliced"),
    torch.bfloat16: ("plain",),
    torch.float16: ("channels_last",),
}
#: Layouts of each mode; over representatives' tiles the interpreter takes long.
MODES = {
    "means": [name for name in LAYOUTS if name not in ("few pixels", "two tiles")],
    "representatives": [
        "four to one",
        "ragged",
        "few pixels",
        "one cell",
        "two tiles",
        "two stretches",
    ],
}


def regions_of(layout: tuple, generator: torch.Generator) -> torch.Tensor:
    maps, _, _, (height, width), side = layout
    coarse = torch.randint(-1, 5, (maps, height, width), generator=generator)
    regions = coarse.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, :height, :width]
    if maps > 1:
        regions[-1] = -1
    regions[0, 0, 0] = 65535
    return regions.contiguous()


def embedding_of(
    mode: str, layout: tuple, dtype: torch.dtype, like: str, generator: torch.Generator
) -> torch.Tensor:
    maps, dim, cells, _, _ = layout
    embeddings = torch.randn(maps, dim, *cells, generator=generator).to(dtype)
    if like == "channels_last":
        embeddings = embeddings.contiguous(memory_format=torch.channels_last)
    elif like == "cancelling":
        # Of pixels along one line rounding would choose the representative.
        rest = 0.05 * embeddings[:, :, :, 1::2] if mode == "representatives" else 0
        embeddings[:, :, :, 1::2] = rest - embeddings[:, :, :, : cells[1] // 2 * 2 : 2] * 0.9
    elif like == "sliced":
        embeddings = torch.cat([embeddings, embeddings], 3)[:, :, :, : cells[1]]
    return embeddings.to(DEVICE).requires_grad_()


def both_ways(mode: str, embeddings: torch.Tensor, numbered, number: int):
    """What the plain path gives in float64, and what the kernels give: tuples of outputs."""
    exact = embeddings.double()
    if mode == "means":
        options = {"normalize": number != 1, "align_corners": number == 2}
        slow = PooledMeans.apply(exact, numbered, options)
        return (slow,), (FusedMeans.apply(embeddings, numbered, options),)
    # Fewer than one tile of the kernel, and more than the embedding is wide.
    generator = torch.Generator().manual_seed(number)
    prototypes = torch.randn(3 + 17 * number, embeddings.shape[1], generator=generator)
    prototypes = torch.nn.functional.normalize(prototypes, dim=1).to(DEVICE)
    slow = Representatives.apply(exact, prototypes.double(), numbered, number == 2)
    return slow, FusedRepresentatives.apply(embeddings, prototypes, numbered, number == 2)


def compare(mode: str, layout: tuple, dtype: torch.dtype, number: int, like: str) -> dict:
    generator = torch.Generator().manual_seed(number)
    embeddings = embedding_of(mode, layout, dtype, like, generator)
    numbered = index_regions(regions_of(layout, generator).to(DEVICE))
    slow, fast = both_ways(mode, embeddings, numbered, number)
    targets = [
        torch.randn(part.shape, generator=generator, dtype=torch.float64).to(DEVICE)
        for part in slow
    ]
    expected, found = (
        torch.autograd.grad(
            sum((part * target).sum() for part, target in zip(parts, targets, strict=True)),
            embeddings,
        )[0].double()
        for parts in (slow, fast)
    )
    apart = [
        float(((one - other).abs().max() / one.abs().max().clamp(min=1e-3)).detach())
        for one, other in zip(slow, fast, strict=True)
    ]
    gradient = float((expected - found).abs().max() / expected.abs().max())
    return {"value": max(apart), "gradient": gradient, "regions": len(slow[0])}


def without_regions(mode: str) -> dict:
    empty = index_regions(torch.full((1, 4, 4), -1, device=DEVICE))
    embeddings = torch.randn(1, 4, 2, 2, device=DEVICE, requires_grad=True)
    _, fast = both_ways(mode, embeddings, empty, 0)
    sum(part.sum() for part in fast).backward()
    return {"value": 0.0, "gradient": float(embeddings.grad.abs().max()), "regions": len(fast[0])}


def main() -> None:
    found = {}
    for mode, names in MODES.items():
        for name in names:
            for dtype, cases in CASES.items():
                for number, like in enumerate(cases):
                    key = f"{mode}, {name}, {str(dtype).removeprefix('torch.')}, {like}"
                    found[key] = compare(mode, LAYOUTS[name], dtype, number, like)
        found[f"{mode}, empty"] = without_regions(mode)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
