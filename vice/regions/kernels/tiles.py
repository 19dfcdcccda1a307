"""Kernels whose programs hold some numbers of every pixel of a block, mixed down, then across."""

from __future__ import annotations

import triton
import triton.language as tl

from vice.regions.kernels.blocks import (
    Plan,
    along_axis,
    columns_of_cells,
    pixels,
    row_of_cells,
    two_cells,
)


@triton.jit
def tile(
    rows, shares_y, shares_x, first_y, first_x, pixels_y, pixels_x, none,
    SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr,
):  # fmt: skip
    """Places and regions as `pixels` gives them, and shares down and along a program's block."""
    x = tl.program_id(0)
    _, place, row, _ = pixels(
        x, rows, shares_y, shares_x, first_y, first_x, pixels_y, pixels_x, none, SIDE_Y, SIDE_X
    )
    _, _, down = along_axis(first_y, shares_y, tl.program_id(1), tl.arange(0, SIDE_Y))
    _, _, along = along_axis(first_x, shares_x, x, tl.arange(0, SIDE_X))
    return place, row, down, along


@triton.jit
def four_cells(cells, height, width, d, dim, stride_b, stride_d, stride_y, stride_x):
    """Numbers ``d`` of the four cells around a program's block, in float32; 0 beyond the last."""
    around = row_of_cells(height)
    left, right = columns_of_cells(tl.program_id(0), width)
    c0, c2 = two_cells(cells, around, left, d, dim, stride_b, stride_d, stride_y, stride_x)
    c1, c3 = two_cells(cells, around, right, d, dim, stride_b, stride_d, stride_y, stride_x)
    return c0, c1, c2, c3


@triton.jit
def mix(four, down, along):
    """Mixes (rows, columns, n) of some numbers of four cells, (n,) each: down, then across."""
    c0, c1, c2, c3 = four
    left = c0[None, :] + down[:, None] * (c2 - c0)[None, :]
    right = c1[None, :] + down[:, None] * (c3 - c1)[None, :]
    return left[:, None, :] + along[None, :, None] * (right - left)[:, None, :]


def constants_of(plan: Plan, wide: int) -> dict[str, int]:
    """Constants of a kernel that holds ``wide`` numbers of every pixel at a time."""
    constants = {name: plan.constants[name] for name in ("SIDE_Y", "SIDE_X")}
    held = constants["SIDE_Y"] * constants["SIDE_X"] * wide
    return {**constants, "WIDE": wide, "num_warps": max(1, min(8, held // 1024))}
