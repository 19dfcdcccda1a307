"""Compares the Triton kernels with the plain path; run by test_kernels.py in a process of its own.

Without a GPU the kernels run in Triton's interpreter, which has to be asked for before Triton is
imported. Prints one JSON line: for each case the greatest errors relative to the greatest value.

    python kernel_check.py [few]     # few: one case of each layout, its kind in turn
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"

from vice.regions import index_regions  # noqa: E402
from vice.regions.kernels import FusedMeans, FusedRepresentatives  # noqa: E402
from vice.regions.means import PooledMeans  # noqa: E402
from vice.regions.representatives import Representatives  # noqa: E402

#: maps, width, cells, pixels, side of a block of one region. The interpreter takes about as long
#: for each block of pixels between four cells: a layout has no more than show what it is for.
LAYOUTS = {
    "four to one": (1, 16, (2, 3), (8, 12), 3),
    "ragged": (2, 12, (2, 2), (7, 5), 2),
    "as many pixels as cells": (1, 5, (2, 4), (2, 4), 1),
    "fewer pixels than cells": (1, 7, (4, 5), (2, 3), 1),
    "one cell": (1, 3, (1, 1), (5, 7), 2),
    "few pixels": (1, 7, (3, 2), (2, 1), 1),
    "two wide": (1, 2, (2, 3), (6, 6), 2),
    "two tiles": (1, 40, (2, 3), (8, 6), 3),
    "two stretches": (1, 6, (1, 5), (2, 10), 2),
}
CASES = {
    torch.float32: ("plain", "channels_last", "cancelling", "sliced"),
    torch.bfloat16: ("plain",),
    torch.float16: ("channels_last",),
}
#: Layouts in low precision: it is read alike in all, and added up in parts where there are maps.
LOW_PRECISION = ("ragged", "one cell", "two tiles")
#: Layouts of each mode.
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


class Case(NamedTuple):
    """One comparison; its number sets how pixels are placed, and how many prototypes there are."""

    mode: str
    layout: str
    dtype: torch.dtype
    number: int
    like: str
    through: bool = False

    def __str__(self) -> str:
        name = f"{self.mode}, {self.layout}, {str(self.dtype).removeprefix('torch.')}, {self.like}"
        return f"{name}, through" if self.through else name


def cases_of(mode: str) -> Iterator[Case]:
    for place, layout in enumerate(MODES[mode]):
        through = place % 2 == 0
        for dtype, cases in CASES.items():
            if dtype == torch.float32 or layout in LOW_PRECISION:
                for number, like in enumerate(cases):
                    # Each layout has the plain case and one or two others, with both gradients.
                    if number in (0, 1 + place % 3, 1 + (place + 1) % 3 * (place % 2)):
                        yield Case(mode, layout, dtype, number, like, mode != "means" and through)
                        through = not through


def few_of(mode: str) -> list[Case]:
    """One case of each layout, of all kinds in turn, and one in each low precision."""
    cases = list(cases_of(mode))
    exact = [case for case in cases if case.dtype == torch.float32]
    chosen = []
    for place, layout in enumerate(MODES[mode]):
        of_layout = [case for case in exact if case.layout == layout]
        chosen.append(of_layout[place % len(of_layout)])
    low = {case.dtype: case for case in cases if case.dtype != torch.float32}
    return [*chosen, *low.values()]


def regions_of(layout: tuple, generator: torch.Generator) -> torch.Tensor:
    maps, _, _, (height, width), side = layout
    coarse = torch.randint(-1, 5, (maps, height, width), generator=generator)
    regions = coarse.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, :height, :width]
    if maps > 1:
        regions[-1] = -1
    regions[0, 0, 0] = 65535
    return regions.contiguous()


def embedding_of(case: Case, generator: torch.Generator) -> torch.Tensor:
    maps, dim, cells, _, _ = LAYOUTS[case.layout]
    embeddings = torch.randn(maps, dim, *cells, generator=generator).to(case.dtype)
    if case.like == "channels_last":
        embeddings = embeddings.contiguous(memory_format=torch.channels_last)
    elif case.like == "cancelling":
        # Of pixels along one line rounding would choose the representative.
        rest = 0.05 * embeddings[:, :, :, 1::2] if case.mode == "representatives" else 0
        embeddings[:, :, :, 1::2] = rest - embeddings[:, :, :, : cells[1] // 2 * 2 : 2] * 0.9
    elif case.like == "sliced":
        embeddings = torch.cat([embeddings, embeddings], 3)[:, :, :, : cells[1]]
    return embeddings.to(DEVICE).requires_grad_()


def both_ways(case: Case, embeddings: torch.Tensor, numbered):
    """What the plain path gives in float64, and what the kernels give: tuples of outputs."""
    exact, number = embeddings.double(), case.number
    if case.mode == "means":
        options = {"normalize": number != 1, "align_corners": number == 2}
        slow = PooledMeans.apply(exact, numbered, options)
        return (slow,), (FusedMeans.apply(embeddings, numbered, options),)
    # Fewer than one tile of the kernel, and more than the embedding is wide.
    generator, dim = torch.Generator().manual_seed(number), embeddings.shape[1]
    prototypes = torch.randn((3, 3, dim + 2, 2 * dim + 1)[number], dim, generator=generator)
    prototypes = torch.nn.functional.normalize(prototypes, dim=1).to(DEVICE)
    options = {"align_corners": number == 2, "through": case.through}
    slow = Representatives.apply(exact, prototypes.double(), numbered, options)
    return slow, FusedRepresentatives.apply(embeddings, prototypes, numbered, options)


def compare(case: Case) -> dict:
    generator = torch.Generator().manual_seed(case.number)
    embeddings = embedding_of(case, generator)
    numbered = index_regions(regions_of(LAYOUTS[case.layout], generator).to(DEVICE))
    slow, fast = both_ways(case, embeddings, numbered)
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
    case = Case(mode, "one cell", torch.float32, 0, "plain")
    _, fast = both_ways(case, embeddings, empty)
    sum(part.sum() for part in fast).backward()
    return {"value": 0.0, "gradient": float(embeddings.grad.abs().max()), "regions": len(fast[0])}


def main() -> None:
    found = {}
    some = few_of if sys.argv[1:] == ["few"] else cases_of
    for mode in MODES:
        found |= {str(case): compare(case) for case in some(mode)}
        found[f"{mode}, empty"] = without_regions(mode)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
