from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vice import regions

ROOT = Path(__file__).resolve().parents[1]


def test_the_kernels_give_the_plain_paths_numbers():
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "kernel_check.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == (6 + 4) * (4 + 1 + 1) + 2
    for name, entry in found.items():
        # Both start from the same rounded embedding; only its gradient is rounded once more.
        rounding = 1e-5 if "float32" in name else 1e-2
        assert entry["value"] < 1e-5, (name, entry)
        assert entry["gradient"] < rounding, (name, entry)


#: Kernels and their constants beside the sides of a block.
KERNELS = [
    ("means._forward", {"NORMALIZE": True, "DIM": 128}),
    ("means._forward", {"NORMALIZE": False, "DIM": 128}),
    ("means._backward", {"NORMALIZE": True, "DIM": 128}),
    ("means._backward", {"NORMALIZE": False, "DIM": 128}),
    ("representatives._lengths", {"DIM": 128}),
    ("representatives._best", {"WIDE": 32}),
    ("representatives._distances", {"WIDE": 32}),
    ("representatives._backward", {"DIM": 128}),
]


@pytest.mark.parametrize(("name", "own"), KERNELS)
def test_the_kernels_compile_for_a_gpu_that_is_not_here(name, own):
    compiler = pytest.importorskip("triton.compiler")
    from triton.backends.compiler import GPUTarget

    module, _, function = name.partition(".")
    kernel = getattr(importlib.import_module(f"vice.kernels.{module}"), function)
    constants = {**own, "SIDE_Y": 8, "SIDE_X": 8}
    types = {
        **dict.fromkeys(constants, "constexpr"),
        "cells": "*bf16",
        **dict.fromkeys(("rows", "first_y", "first_x"), "*i32"),
        **dict.fromkeys(("shares_y", "shares_x", "sums", "inverse", "distance"), "*fp32"),
        **dict.fromkeys(("gradient", "found", "scores", "best", "vectors"), "*fp32"),
        **dict.fromkeys(("of_sums", "pulled", "totals"), "*fp32"),
        **dict.fromkeys(("cancelled", "noise", "epsilon"), "fp32"),
    }
    signature = {p.name: types.get(p.name, "i32") for p in kernel.params}
    source = compiler.ASTSource(kernel, signature, constexprs=constants)
    built = compiler.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1})
    assert built.asm["cubin"]


def test_without_triton_a_gpu_takes_the_plain_path_and_says_so_once(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "triton", None)
    for name in [name for name in sys.modules if name.startswith("vice.kernels")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("vice.kernels", raising=False)
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
