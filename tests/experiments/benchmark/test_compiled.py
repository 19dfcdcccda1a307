from __future__ import annotations

import sys

import pytest
import torch

from vice.experiments.benchmark import scoring
from vice.experiments.benchmark.data import block_regions
from vice.experiments.benchmark.kernels import compiled as kernels
from vice.experiments.benchmark.kernels.sass import Code, Instruction, Loop, follow, instructions
from vice.experiments.benchmark.timing import measured
from vice.regions.bilinear import axis

LISTING = """
	code for sm_90a
		Function : _example
        /*0000*/                   LDC R1, c[0x0][0x28] ;        /* 0x00000a00ff017b82 */
                                                                 /* 0x000fe20000000800 */
        /*0010*/                   LDG.E.128 R4, [R2.64] ;       /* 0x0000000402047981 */
        /*0020*/                   FFMA R8, R4, R4, RZ ;         /* 0x0000000404087223 */
        /*0030*/              @!P0 BRA 0x80 ;                    /* 0x0000000000047947 */
        /*0040*/                   BRA.DIV UR5, 0xc0 ;           /* 0x0000000605287947 */
        /*0050*/                   SHFL.BFLY PT, R9, R8, 0x10 ;  /* 0x0e201f0008097f89 */
        /*0060*/                   REDG.E.ADD.F32x4.FTZ.RN.STRONG.GPU [R2.64], R4 ;  /* 0x0 */
        /*0070*/               @P1 BRA 0x40 ;                    /* 0xfffffff000a41947 */
        /*0080*/                   LDG.E.U16 R3, [R2.64] ;       /* 0x0000000402037981 */
        /*0090*/                   REDUX.SUM.S32 UR4, R3 ;       /* 0x00000000030473c4 */
        /*00a0*/                   MEMBAR.ALL.GPU ;              /* 0x0000000000007992 */
        /*00b0*/                   EXIT ;                        /* 0x000000000000794d */
        /*00c0*/                   WARPSYNC.COLLECTIVE R15, 0xd0 ;  /* 0x000000000f087348 */
        /*00d0*/                   BRA 0x50 ;                    /* 0xffffffe000cc7947 */
        /*00e0*/                   NOP;                          /* 0x0000000000007918 */
"""


def test_straight_lines_and_loops_are_told_apart():
    code = follow(instructions(LISTING))
    assert [one.address for one in code.straight] == [0, 16, 32, 48, 128, 144, 160, 176]
    (loop,) = code.loops
    assert [one.address for one in loop.body] == [64, 80, 96, 112] and loop.touches_memory
    counted = code.static()
    assert counted["load of 16 bytes"] == counted["load of 2 bytes"] == counted["fence"] == 1
    assert counted["atomic of 16 bytes"] == counted["shuffle"] == counted["redux"] == 1
    loop.trips = 2.5
    executed = code.executed()
    assert executed["all"] == 8 + 4 * 2.5 and executed["shuffle"] == 2.5
    assert code.bytes_of("atomic") == 32 * 16 * 2.5
    assert code.bytes_of("load") == 32 * (16 + 2)


def test_a_loop_within_another_repeats_as_often_as_both():
    names = ["S2R", "IADD3", "FFMA", "REDG.E.ADD.F32", "BRA", "LDG.E", "BRA", "EXIT"]
    operands = {4: "0x20", 6: "0x10"}
    code = follow(
        [
            Instruction(16 * n, "@P0" if n in operands else "", name, operands.get(n, ""))
            for n, name in enumerate(names)
        ]
    )
    outer, inner = code.loops
    assert inner.within is outer and outer.within is None and inner.adds and not outer.adds
    assert [one.address for one in code.straight] == [0, 112]
    assert [one.address for one in outer.body] == [16, 80, 96]
    assert [one.address for one in inner.body] == [32, 48, 64]
    outer.trips, inner.trips = 4, 1.5
    assert code.executed()["all"] == 2 + 4 * 3 + 4 * 1.5 * 3
    assert code.bytes_of("atomic") == 32 * 4 * 4 * 1.5


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "programs"),
    # Full with 32 registers; 255 leave 8 warps; 49 are taken as 56; programs are at most 32.
    [
        (32, 0, 2, 32),
        (255, 0, 1, 8),
        (64, 0, 8, 4),
        (49, 0, 4, 9),
        (20, 0, 1, 32),
        (20, 100 * 1024, 4, 2),
    ],
)
def test_programs_that_are_resident_at_a_time(registers, shared, warps, programs):
    assert kernels.occupancy(registers, shared, warps) == programs


def test_each_resource_has_its_time():
    fma = Instruction(0, "", "FFMA", "")
    add = Instruction(16, "", "REDG.E.ADD.F32x2", "")
    code = Code([fma] * 100 + [add], [Loop([Instruction(32, "", "SHFL.BFLY", "")], 40.0)])
    found = kernels.least_seconds(code, 132 * 1000, 2, 3_350_000_000)
    assert found["memory"] == pytest.approx(1e-3)
    assert found["shuffles"] == pytest.approx(2000 * 40 / 1.755e9)
    assert found["issue"] == pytest.approx(2000 * (101 + 40) / 4 / 1.755e9)
    assert found["atomics"] == pytest.approx(132 * 2000 * 32 * 8 / 5120 / 1.755e9)


@pytest.mark.parametrize("stride", [2, 4])
def test_regions_are_counted_block_by_block(stride):
    regions = block_regions(2, 24, 7, "cpu")
    regions[1, 3:9, 5:11] = -1
    weights = torch.zeros(0)
    line = axis(24, 24 // stride, weights)
    # Before the first cell there is a block of its own: nothing is mixed there.
    block = torch.where((line.low == 0) & (line.share == 0), -1, line.low).tolist()
    found = {
        (number, block[y], block[x], int(regions[number, y, x]))
        for number in range(2)
        for y in range(24)
        for x in range(24)
        if regions[number, y, x] >= 0
    }
    expected = len(found) / (2 * (24 // stride + 1) ** 2)
    assert kernels.regions_a_block(regions, stride) == pytest.approx(expected)


@pytest.mark.slow
def test_every_kernel_has_its_resources_and_its_bound(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(kernels, "SIDE", 80)
    rows = kernels.kernels("cpu", small=True)
    bounds = [row for row in rows if row.part.endswith("lower bound")]
    assert len(bounds) == 2 * (2 + 2 + 6 + 3)
    assert all(row.seconds > 0 and row.ratio > 0 and row.reference == "floor" for row in bounds)
    resources = [row.note for row in rows if row.part.endswith("compiled")]
    assert len(resources) == 20 and all("0 bytes spilled" in note for note in resources)
    whole = {row.part: row.seconds for row in bounds}
    parts = [whole[f"pixel, {name}, float32: lower bound"] for name in ("forward", "backward")]
    assert whole["pixel, all kernels, float32: lower bound"] == pytest.approx(sum(parts))


def test_a_missing_package_skips_a_part_and_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    (row,) = measured(scoring.kmeans, "cpu", small=True)
    assert "faiss" in row.part and "faiss-cpu" in row.note
