"""Every part of the benchmark runs and reports what it says; nothing here looks at a time."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from vice.benchmark import growth, images, loss, scoring, timing
from vice.benchmark.data import block_regions, texture
from vice.benchmark.timing import Row, one_core, time_in_turn, to_markdown
from vice.regions import pool_regions

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Three calls of each are enough to see that it runs."""

    def quick(calls, *, device="cpu", seconds=0.0):
        return time_in_turn(calls, device=device, seconds=0.0)

    for module in (growth, images, loss, scoring):
        monkeypatch.setattr(module, "time_in_turn", quick)


@pytest.mark.parametrize(
    "part", [loss.pooling, loss.step, images.superpixels, images.views, scoring.nearest]
)
def test_parts_give_times_and_ratios(part):
    rows = part("cpu", small=True)
    assert len(rows) >= 2
    for row in rows:
        assert row.seconds > 0 and row.ratio > 0 and row.part and row.reference


def test_growth_is_measured_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "SWEEPS", {"region": (24, 6), "dim": (8, 16), "pixels": (48, 96)})
    rows = growth.growth("cpu", small=True, picture=tmp_path / "deep" / "growth.png")
    assert [row.part for row in rows] == ["regions a view", "dimensions", "pixels of a view"]
    assert "regions a view from 64 to 1,024" in rows[0].note
    assert (tmp_path / "deep" / "growth.png").stat().st_size > 1000


def test_the_slow_way_is_the_same_function():
    embeddings = torch.randn(2, 8, 10, 10)
    regions = block_regions(2, 40, 7, "cpu")
    found = loss.upsampled_means(embeddings, regions)
    torch.testing.assert_close(found, pool_regions(embeddings, regions).vectors)


def test_inputs():
    picture = texture(30, 50)
    assert picture.shape == (30, 50, 3) and picture.dtype == np.uint8
    assert int(picture.max()) - int(picture.min()) > 100
    np.testing.assert_array_equal(picture, texture(30, 50))
    assert not np.array_equal(picture, texture(30, 50, seed=1))
    regions = block_regions(2, 20, 6, "cpu")
    assert regions.shape == (2, 20, 20) and len(regions.unique()) == 16


def test_times_are_taken_in_turn(monkeypatch):
    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    monkeypatch.setattr(timing, "TURN", 0.0)
    taken = time_in_turn(calls, seconds=0.0)
    # Once to warm up, once to see how long it takes, then three rounds.
    assert set(taken) == {"a", "b"} and order == list("ab" * 5)


def test_a_quick_call_is_repeated_within_its_turn():
    count = 0

    def quick():
        nonlocal count
        count += 1

    taken = time_in_turn({"quick": quick, "slow": lambda: time.sleep(0.03)}, seconds=0.0)
    assert count > 100 and taken["quick"] < 0.001 < 0.03 <= taken["slow"]


def test_one_core_is_given_back():
    import cv2

    before = torch.get_num_threads(), cv2.getNumThreads()
    with one_core():
        assert torch.get_num_threads() == cv2.getNumThreads() == 1
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_times_of_a_cpu_are_not_printed():
    rows = [Row("a", 0.012, "b", 2.0), Row("b", 0.006)]
    assert "12 ms" in to_markdown("t", rows, absolute=True)
    shown = to_markdown("t", rows, absolute=False)
    assert "ms" not in shown and "| a | - | b | 2 |  |" in shown
    assert math.isnan(rows[1].ratio) and "| b | - |  | - |  |" in shown


def test_the_command_line_names_its_parts():
    tool = [sys.executable, str(ROOT / "tools" / "benchmark.py")]
    done = subprocess.run([*tool, "speed"], capture_output=True, text=True)
    assert done.returncode == 2 and "no part 'speed'; choose of pooling, step" in done.stderr
