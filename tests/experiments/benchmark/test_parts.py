"""Every part of the benchmark runs and reports what it says; nothing here looks at a time."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vice.experiments.benchmark import (
    growth,
    images,
    joint,
    kmeans_epoch,
    loading,
    methods,
    networks,
    pooling,
    predictor,
    scoring,
    step,
    timing,
)
from vice.experiments.benchmark.data import block_regions, texture
from vice.experiments.benchmark.timing import Measurement, one_core, time_in_turn, to_markdown
from vice.regions import pool_regions
from vice.superpixels import Superpixels
from vice.views import ViewSampler
from vice.views.batch import ViewBatches
from vice.views.photometric import Photometric

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Three calls of each, and passes over a few images, are enough to see that it runs."""

    def quick(calls, *, seconds=0.0, **options):
        return time_in_turn(calls, seconds=0.0, **options)

    for module in (growth, images, joint, kmeans_epoch, loading, methods, networks, pooling,
                   predictor, scoring, step):  # fmt: skip
        monkeypatch.setattr(module, "time_in_turn", quick)
    monkeypatch.setattr(kmeans_epoch, "_BATCHES", 2)


#: Those that take longest even so.
LONG = (
    step.step,
    pooling.pooling,
    scoring.nearest,
    kmeans_epoch.kmeans_epoch,
    methods.methods,
    predictor.predictor,
)


@pytest.mark.parametrize(
    "part",
    [
        step.operators,
        images.superpixels,
        images.views,
        scoring.kmeans,
        joint.iic_joint,
        networks.networks,
        *(pytest.param(part, marks=pytest.mark.slow, id=part.__name__) for part in LONG),
    ],
)
def test_parts_give_times_and_ratios(part):
    if part is scoring.kmeans:
        pytest.importorskip("faiss")
    rows = part("cpu", small=True)
    assert len(rows) >= 2
    for row in rows:
        assert row.seconds > 0 and row.ratio > 0 and row.part and row.reference


def test_pooling_tells_its_memory_and_its_distance_from_the_floor():
    rows = {row.part: row for row in pooling.pooling("cpu", small=True)}
    extra = {
        name: float(re.search(r"([\d.]+) Y of memory", row.note)[1])
        for name, row in rows.items()
        if "floor" not in name
    }
    # Small maps of a CPU are pooled together, which takes copies of all of them.
    assert 1 <= extra["pool_regions, region, float32"] <= extra["pool_regions, pixel, float32"] < 3
    assert extra["upsampled, float32"] > 16
    assert "times the floor" in rows["representatives, float32"].note


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_timed_by_its_kernels_and_each_is_counted_once():
    rows = {row.part: row for row in pooling.pooling("cuda", small=True)}
    for dtype in ("float32", "bfloat16"):
        alone = rows[f"pool_regions, pixel, kernels alone, {dtype}"]
        assert 0 < alone.seconds < rows[f"pool_regions, pixel, {dtype}"].seconds
    shares = [row.ratio for row in step.operators("cuda", small=True)]
    assert shares[0] > 0 and sum(shares) <= 1
    for region_vector in ("pixel", "representative"):
        setting = step.Setting(("channels_last",), "cuda", True, region_vector)
        setting.whole()
        assert setting.waits() == 0


def test_kmeans_reaches_faiss_objective():
    pytest.importorskip("faiss")
    rows = scoring.kmeans("cpu", small=True)
    shares = [float(re.search(r"objective ([\d.]+)", row.note)[1]) for row in rows]
    assert shares[0] == 1 and abs(shares[1] - 1) < 0.02


def test_the_profile_is_of_the_step():
    rows = step.operators("cpu", small=True)
    assert len(rows) == step.SHOWN and 0.5 < sum(row.ratio for row in rows) <= 1
    assert rows[0].ratio == max(row.ratio for row in rows)


def test_loading_counts_images_and_what_travels(monkeypatch):
    monkeypatch.setattr(loading, "WORKERS", (1, 2))
    monkeypatch.setattr(loading, "FEEDERS", 2)
    monkeypatch.setattr(loading, "BATCH", 2)
    rows = loading.loading("cpu", small=True)
    alone, rows, hungry = rows[:3], rows[3:-3], rows[-3:]
    assert [row.part for row in alone] == [
        f"an image on a core, {left} left to the device" for left in loading.LEFT
    ]
    assert alone[0].ratio == 1
    assert [row.part.rpartition(", ")[2] for row in rows] == 3 * ["1 workers", "2 workers"]
    assert all(row.seconds > 0 and row.ratio > 0 for row in alone + rows + hungry)
    size = [float(re.search(r"([\d.]+) MiB", row.note)[1]) for row in rows]
    pixels = loading.BATCH * 2 * 96**2 / 2**20
    whole = loading.BATCH * 120 * 160 / 2**20
    # 3 bytes and the region's id a pixel; then whether noise goes there as well;
    # then the id and the noise, and 3 bytes a pixel of the whole images.
    sizes = [7 * pixels, 8 * pixels, 5 * pixels + 3 * whole]
    assert size == pytest.approx(np.repeat(sizes, 2), abs=0.06)
    for left, row, fed in zip(loading.LEFT, hungry, rows[1::2], strict=True):
        assert row.part.startswith(f"an image of a step, {left} left to it")
        assert row.reference == "2 workers" and "images/s" not in row.note
        assert row.ratio == pytest.approx(row.seconds / fed.seconds)


def test_each_way_of_loading_ends_in_the_same_views(tmp_path):
    path = tmp_path / "one.jpg"
    Image.fromarray(texture(90, 120)).save(path)
    found = []
    for left, where in loading.LEFT.items():
        views = ViewBatches(ViewSampler(num_views=2, size=64), Photometric(), **where)
        pictures = loading.Pictures([path], 3, views, Superpixels(), left)
        batch = views.collate([pictures[index] for index in range(3)])
        found.append(views.finish(batch, torch.device("cpu"))[0])
    assert all(images.shape == (6, 3, 64, 64) for images in found)
    torch.testing.assert_close(found[1], found[0])
    # A level is 0.017; colours are changed by factors of up to about 2, with contrast above it.
    assert (found[2] - found[0]).abs().mean() < 0.005


def test_views_are_cut_on_the_device_and_on_a_core():
    rows = [row.part for row in images.views("cpu", small=True)]
    assert rows[-3:] == [
        "five views of 256, not cut",
        "cutting five views of 256, OpenCV",
        "cutting five views of 256, one core",
    ]


def test_superpixels_of_real_files(tmp_path):
    for number in range(3):
        Image.fromarray(texture(60, 80, number)).save(tmp_path / f"{number}.jpg")
    rows = images.superpixels("cpu", small=True, folder=tmp_path)
    assert [row.part for row in rows][:2] == ["decoding", "slic"]
    assert "KiB an image" in rows[-1].note and rows[-1].ratio > 0


def test_growth_is_measured_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "SWEEPS", {"region": (24, 6), "dim": (8, 16), "pixels": (48, 96)})
    rows = growth.growth("cpu", small=True, picture=tmp_path / "deep" / "growth.png")
    assert [row.part for row in rows] == ["regions a view", "dimensions", "pixels of a view"]
    assert "regions a view from 324 to 5,041" in rows[0].note
    assert (tmp_path / "deep" / "growth.png").stat().st_size > 1000


def test_the_slow_way_is_the_same_function():
    embeddings = torch.randn(2, 8, 10, 10)
    regions = block_regions(2, 40, 7, "cpu")
    found = pooling.upsampled_means(embeddings, regions)
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
    rows = [Measurement("a", 0.012, "b", 2.0), Measurement("b", 0.006)]
    assert "12 ms" in to_markdown("t", rows, absolute=True)
    shown = to_markdown("t", rows, absolute=False)
    assert "ms" not in shown and "| a | - | b | 2 |  |" in shown
    assert math.isnan(rows[1].ratio) and "| b | - |  | - |  |" in shown


def test_a_part_that_fails_says_so_and_costs_no_other(caplog):
    def broken(device, *, small):
        raise RuntimeError("out of\nmemory")

    (row,) = timing.measured(broken, "cpu", small=True)
    assert row.part == timing.FAILED and row.note.startswith("RuntimeError: out of")
    assert "this part failed" in caplog.text


def test_nothing_is_compiled_for_a_cpu():
    (row,) = step.compiled("cpu", small=True)
    assert row.part == "skipped" and "minutes to compile" in row.note


def test_the_command_line_names_its_parts():
    tool = [sys.executable, str(ROOT / "tools" / "benchmark.py")]
    done = subprocess.run([*tool, "speed"], capture_output=True, text=True)
    assert done.returncode == 2 and "no part 'speed'; choose of pooling, step" in done.stderr
