from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vice.experiments.benchmark.data import block_regions
from vice.experiments.benchmark.kernels.sass import Code
from vice.regions import pool as regions

ROOT = Path(__file__).resolve().parents[2]


#: Cases, and of how many of them gradients flow through representatives.
CASES = {"few": (9 + 8 + 2, 4), "all": (2 * 23 + 2, 23 // 2)}


@pytest.mark.parametrize("cases", ["few", pytest.param("all", marks=pytest.mark.slow)])
def test_the_kernels_give_the_plain_paths_numbers(cases):
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "helpers" / "kernel_check.py"), cases],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if not torch.cuda.is_available() and "only 0-dimensional arrays" in done.stderr:
        pytest.skip("this Triton's interpreter is older than this NumPy: install numpy<2.4")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    # Of each kind, and without a region.
    assert (len(found), sum(name.endswith("through") for name in found)) == CASES[cases]
    for name, entry in found.items():
        # Both start from the same rounded embedding; only its gradient is rounded once more.
        rounding = 1e-5 if "float32" in name else 1e-2
        assert entry["value"] < 1e-5, (name, entry)
        assert entry["gradient"] < rounding, (name, entry)


#: Kernels that each way to pool launches.
KERNELS = {
    "pixel": {"forward", "backward"},
    "region": {"forward", "backward"},
    "representatives": {"lengths", "best", "vectors", "distances", "backward", "to_chosen"},
}


def compiled(way: str, capability: int, dtype: torch.dtype, dim: int = 128) -> dict[str, Code]:
    """Machine code of what is launched, with the constants of 400 pixels at stride 4."""
    pytest.importorskip("triton")
    from vice.experiments.benchmark.kernels import launches

    found = launches.launches(way, block_regions(2, 80, 9, "cpu"), dim=dim, dtype=dtype)
    assert {launch.named.get("SIDE_Y") for launch in found} <= {4, None}
    assert {launch.name for launch in found} == KERNELS[way]
    return {
        launch.name: launches.disassembled(launches.compiled(launch, capability))
        for launch in found
    }


@pytest.mark.parametrize(
    ("way", "capability"),
    [
        *((way, 90) for way in KERNELS),
        pytest.param("region", 80, marks=pytest.mark.slow),
        pytest.param("representatives", 100, marks=pytest.mark.slow),
    ],
)
def test_the_kernels_compile_for_gpus_that_are_not_here_and_spill_nothing(way, capability):
    for name, code in compiled(way, capability, torch.bfloat16).items():
        counted = code.static()
        assert code.registers > 0 and counted["arithmetic"] > 0, name
        assert code.stack == 0 and counted["spill"] == 0, name
        # Nobody waits for what is added, and it is added four numbers at a time where that exists.
        assert counted["fence"] == 0, name
        if name == "backward" and capability >= 90:
            assert counted["atomic of 16 bytes"] >= 4 and not counted["atomic of 8 bytes"], name


@pytest.mark.slow
def test_representatives_that_are_constants_cost_less():
    """What pulls at them is not added up, nor read."""
    pytest.importorskip("triton")
    from vice.experiments.benchmark.kernels import launches

    counted = {}
    for through in (False, True):
        found = launches.launches(
            "representatives",
            block_regions(2, 80, 9, "cpu"),
            dtype=torch.bfloat16,
            through=through,
        )
        assert {launch.name for launch in found} == KERNELS["representatives"]
        for launch in found:
            if launch.name in ("backward", "to_chosen"):
                code = launches.disassembled(launches.compiled(launch, 90))
                assert code.stack == 0 and code.static()["spill"] == 0, launch.name
                counted[launch.name, through] = code.static()
    assert atomics(counted["backward", False]) < atomics(counted["backward", True])
    assert loads(counted["to_chosen", False]) < loads(counted["to_chosen", True])


def atomics(counted) -> int:
    return sum(number for name, number in counted.items() if name.startswith("atomic"))


def loads(counted) -> int:
    return sum(number for name, number in counted.items() if name.startswith("load"))


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        pytest.param(torch.bfloat16, marks=pytest.mark.slow),
        pytest.param(torch.float16, marks=pytest.mark.slow),
    ],
)
def test_lanes_load_four_numbers_of_a_cell_at_a_time(dtype):
    for name, code in compiled("pixel", 90, dtype).items():
        assert code.static()[f"load of {4 * dtype.itemsize} bytes"] >= 4, name


@pytest.mark.parametrize("way", ["pixel", pytest.param("representatives", marks=pytest.mark.slow)])
def test_wide_embeddings_spill_nothing(way):
    for name, code in compiled(way, 90, torch.float32, 1024).items():
        assert code.stack == 0 and code.static()["spill"] == 0, name


def test_without_triton_a_gpu_takes_the_plain_path_and_says_so_once(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "triton", None)
    for name in [name for name in sys.modules if name.startswith("vice.regions.kernels")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("vice.regions.kernels", raising=False)
    regions._kernels.cache_clear()
    assert regions._kernels() is None and regions._kernels() is None
    assert caplog.text.count("regions are pooled by plain PyTorch") == 1
    regions._kernels.cache_clear()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_kernels_are_what_pools():
    embeddings = torch.randn(2, 8, 5, 5, device="cuda", requires_grad=True)
    maps = torch.randint(0, 3, (2, 20, 20), device="cuda")
    pooled = regions.pool_regions(embeddings, maps)
    assert "FusedMeans" in type(pooled.vectors.grad_fn).__name__
    prototypes = torch.eye(8, device="cuda")
    chosen, coherence = regions.representative_regions(embeddings, maps, prototypes)
    assert "FusedRepresentatives" in type(coherence.grad_fn).__name__
    with torch.random.fork_rng():
        torch.use_deterministic_algorithms(True)
        plain = regions.pool_regions(embeddings, maps)
        slow, slow_coherence = regions.representative_regions(embeddings, maps, prototypes)
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(pooled.vectors, plain.vectors)
    torch.testing.assert_close(chosen.vectors, slow.vectors)
    torch.testing.assert_close(coherence, slow_coherence)
