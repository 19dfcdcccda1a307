"""The demo's steps with a few tiny images: real VISSL, real MMSegmentation, real report."""

from __future__ import annotations

import functools
import json
import os
import subprocess

import numpy as np
import pytest
from PIL import Image

import vice
from tests.helpers.canary import CANARIES, leaks
from tests.helpers.fork_spawn import ForkedPopen
from tests.helpers.forked import server
from vice.errors import UserError
from vice.experiments.demo import steps
from vice.experiments.demo.mosaics import CLASSES, make_mosaics

pytest.importorskip("vissl")
pytest.importorskip("mmseg")

SHORT = (
    "config.VICE.DATASET.min_images_per_epoch=4",
    "config.VICE.VIEWS.size=48",
    "config.VICE.VIEWS.num_views=2",
    "config.VICE.SUPERPIXELS.region_size=8",
    "config.VICE.PROTOTYPES.num_prototypes=4",
    "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=2",
    "config.DATA.NUM_DATALOADER_WORKERS=0",
    "config.OPTIMIZER.num_epochs=1",
    "config.VICE.SCHEDULE.warmup_epochs=0",
)


@pytest.fixture(autouse=True)
def trainings_are_forked(monkeypatch):
    """Processes of their own, spared the imports."""
    server()
    monkeypatch.setattr(subprocess, "Popen", ForkedPopen)


def test_mosaics_are_trained_on_scored_and_shown(tmp_path, monkeypatch):
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    few = functools.partial(make_mosaics, train=6, val=4, size=80)
    monkeypatch.setattr(steps, "make_mosaics", few)
    out = tmp_path / "demo"
    report = steps.run_demo(out, overrides=SHORT)
    results = json.loads((out / "results.json").read_text())
    assert set(results["scores"]) == {"trained", "random", "lab"}
    for entry in results["scores"].values():
        assert set(entry) == {"linear", "clusters", "clusters_24"}
        for part in entry.values():
            assert 0 <= part["miou"] <= 1 and set(part["iou_per_class"]) == set(CLASSES)
    assert results["versions"]["vice"] == vice.__version__
    assert results["config"]["PROTOTYPES"]["num_prototypes"] == 4
    assert len(steps.verdict(results)) == 3
    for name in results["scores"]:
        read = [
            json.loads((out / "eval" / name / kind / "results.json").read_text())
            for kind in ("linear", "clusters")
        ]
        # One pass over each split for both, and a probe that is fitted to convergence.
        assert all(each["one_pass"] == read[0]["one_pass"] for each in read)
        assert read[0]["protocol"]["fields"]["linear_optimizer"] == "lbfgs"
    text = report.read_text()
    pictures = {path.name for path in (out / "pictures").iterdir()}
    assert {"classes.png", "embeddings.png", "photographs.png", "curves.png"} <= pictures
    assert all(f"pictures/{name}" in text for name in pictures)

    # A second call trains and scores nothing anew, and gives the same answer.
    weights = out / "train" / "vice.safetensors"
    before = weights.stat().st_mtime_ns
    steps.run_demo(out, overrides=SHORT)
    again = json.loads((out / "results.json").read_text())
    assert weights.stat().st_mtime_ns == before and again["scores"] == results["scores"]
    with pytest.raises(UserError, match="was trained on .*choose another output folder"):
        steps.run_demo(out, tmp_path)
    assert leaks(out) == []


def test_own_images_give_pictures_without_scores(tmp_path, caplog):
    folder = tmp_path / "my photos, 1"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = rng.integers(0, 256, (40 + i, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
    (folder / "broken.jpg").write_bytes(b"no image")
    short = (*SHORT, "config.VICE.STANDARDIZE.min_side=64")
    report = steps.run_demo(tmp_path / "out", folder, short)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "scores" not in results and folder.name in results["title"]
    assert "clusters.png" in report.read_text()
    assert vice.load(tmp_path / "out" / "train").segment(folder / "0.jpg").shape == (40, 56)


def test_scores_are_of_the_weights_that_are_there_whatever_the_times_of_files(tmp_path):
    scored = []

    def evaluate(spec, out_dir):
        scored.append(spec)
        for kind in ("linear", "clusters"):
            (out_dir / kind).mkdir(parents=True, exist_ok=True)
            (out_dir / kind / "results.json").write_text(json.dumps({"run": len(scored)}))
        return {kind: {"run": len(scored)} for kind in ("linear", "clusters")}

    def twice():
        found = [steps._unless_done(out, run, evaluate, "spec") for _ in range(2)]
        return [[each[kind]["run"] for kind in ("linear", "clusters")] for each in found]

    run, out = tmp_path / "run", tmp_path / "eval"
    run.mkdir()
    (run / "vice.json").write_text('{"sha256": "a"}')
    assert twice() == [[1, 1], [1, 1]]
    # Other weights that are older, as in a folder that was copied.
    (run / "vice.json").write_text('{"sha256": "b"}')
    os.utime(run / "vice.json", (1, 1))
    assert twice() == [[2, 2], [2, 2]]
    # Stopped between the two.
    (out / "clusters" / "results.json").unlink()
    assert twice() == [[3, 3], [3, 3]]
    (out / "linear" / "results.json").write_text("{")
    with pytest.raises(UserError, match=r"results\.json is broken .*delete .*eval"):
        steps._unless_done(out, run, evaluate, "spec")
