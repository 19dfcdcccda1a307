"""What is not a number gets no score, whoever made it, and takes nothing along."""

from __future__ import annotations

import json
import logging
import shutil
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.processes import ROOT, free_ports, launch
from tests.helpers.variations import variations
from tests.hostile.judge import snapshot
from vice.errors import UserError
from vice.evaluation.options import percent
from vice.plugins.mmseg import running
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.finetune import finetune
from vice.plugins.mmseg.results import training_outcome
from vice.plugins.mmseg.watching import Training

from .helpers import CLUSTERS, LINEAR, QUIET, TinyEmbedder

LBFGS = {**QUIET, "changes": {"linear_optimizer": "lbfgs", "linear_pixels": 300}}
FEW = {**QUIET, "changes": {"linear_iterations": 2, "linear_batch": 2}}
WAYS = {
    "steps": (evaluate_linear, FEW),
    "lbfgs": (evaluate_linear, LBFGS),
    "clusters": (evaluate_clusters, CLUSTERS),
    "fine-tuned": (finetune, {**FEW, "crop": 0}),
}


class Spoilt(TinyEmbedder):
    """NaN in one pixel of white images."""

    def forward(self, images):
        found = super().forward(images)
        white = images[:, :, 5, 5].amin(1) > 2  # Smaller images of a batch are padded.
        spoilt = torch.zeros_like(found)
        spoilt[white, 0, 1, 2] = torch.nan
        return torch.where(spoilt == 0, found, spoilt)


def make():
    """What ``tests.plugins.mmseg.test_watching:make`` names."""
    return Spoilt()


SPEC = f"{__name__}:make"


def whiten(root, split, stem):
    path = root / "images" / split / f"{stem}.png"
    Image.fromarray(np.full_like(np.asarray(Image.open(path)), 255)).save(path)
    return path


@pytest.mark.parametrize(("way", "split"), variations(product(WAYS, ("train", "val")), 3))
def test_one_pixel_of_one_image_is_named_and_earlier_results_stay(
    way, split, make_folder, tmp_path
):
    root, out = make_folder(train=3, val=3), tmp_path / "out"
    evaluate, options = WAYS[way]
    evaluate(SPEC, root, out, **options)
    before = snapshot(out)
    path = whiten(root, split, "01")
    options = {**options, "changes": {**options["changes"], "linear_iterations": 6}}
    with pytest.raises(UserError, match="its embedding is not finite") as caught:
        evaluate(SPEC, root, out, **options)
    assert str(path) in str(caught.value)
    assert snapshot(out) == before


@pytest.mark.parametrize("rate", [1e6, 1e4])
def test_a_probe_that_diverges_gets_no_score(rate, tiny, make_folder, tmp_path, caplog):
    options = {**LINEAR, "changes": {**LINEAR["changes"], "linear_lr": rate}}
    with pytest.raises(UserError, match="diverged.*linear_lr"):
        evaluate_linear(tiny, make_folder(), tmp_path / "out", **options)
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize(("loss", "told"), [(1.38, False), (1.5, True), (9e5, True)])
def test_a_fit_that_ends_above_guessing_says_so(loss, told, caplog):
    seen = torch.zeros(256, dtype=torch.bool)
    seen[[1, 255]] = True
    metric = SimpleNamespace(training=Training(seen, loss))
    with caplog.at_level(logging.WARNING, "vice"):
        ended, fitted = training_outcome(metric, 4)
    assert ended == loss and fitted.tolist() == [False, True, False, False]
    assert ("above that of guessing" in caplog.text) == told


def test_a_fit_on_nothing_or_beyond_all_bounds_is_refused():
    seen = torch.zeros(256, dtype=torch.bool)
    seen[255] = True
    with pytest.raises(UserError, match="no labelled pixel was fitted on"):
        training_outcome(SimpleNamespace(training=Training(seen, 0.1)), 4)
    with pytest.raises(UserError, match="diverged, lower linear_lr"):
        training_outcome(SimpleNamespace(training=Training(~seen, 2e6)), 4)


def test_classes_that_are_absent_are_named_once(make_folder, tiny, tmp_path, caplog):
    root = make_folder(train=2, val=2)
    for path in (root / "labels" / "val").iterdir():
        label = np.asarray(Image.open(path)).copy()
        label[label == 2] = 255
        Image.fromarray(label).save(path)
    absent = {"fit": ["never seen"], "score": ["blue", "never seen"]}
    for way, (evaluate, options) in WAYS.items():
        caplog.clear()
        with caplog.at_level(logging.WARNING, "vice.datasets.labelled_pixels"):
            result = evaluate(tiny, root, tmp_path / way, **options)
        assert result["absent"] == absent, way
        (line,) = [r.message for r in caplog.records if r.name == "vice.datasets.labelled_pixels"]
        assert "fitted split train: never seen" in line and "val: blue, never seen" in line
    hungarian = {**CLUSTERS, "changes": {**CLUSTERS["changes"], "matchings": ("hungarian",)}}
    result = evaluate_clusters(tiny, root, tmp_path / "hungarian", **hungarian)
    assert result["absent"] == {"fit": None, "score": absent["score"]}


def test_two_processes_agree_and_end_with_one_line(make_folder, tmp_path):
    root, out = make_folder(train=4, val=4), tmp_path / "out"
    for stem in ("00", "01", "02", "03"):
        whiten(root, "val", stem)
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2"]
    torchrun += [f"--master-port={free_ports(1)[0]}", ROOT / "tools" / "eval_cluster.py", SPEC]
    torchrun += ["--dataset", root, "--out", out, "--clusters", 2, "--pixels", 500]
    (done,) = launch([*torchrun, "--device", "cpu"], 1)
    assert done.returncode != 0 and not (out / "results.json").exists()
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "its embedding is not finite" in lines[0], done.stderr


def test_results_say_over_how_many_classes(make_folder, tiny, tmp_path):
    result = evaluate_linear(tiny, make_folder(train=2, val=2), tmp_path, **FEW)
    scores = json.loads((tmp_path / "results.json").read_text())["linear"]
    counted = sum(value is not None for value in scores["iou_per_class"].values())
    assert scores["classes_in_mean"] == counted == result["linear"]["classes_in_mean"]
    assert percent(scores).endswith(f"(mean over {counted} of 4 classes)")


def test_ctrl_c_while_a_runner_clears_up_leaves_nothing(tmp_path, monkeypatch):
    config, remove, calls = SimpleNamespace(work_dir=str(tmp_path / "runner")), shutil.rmtree, []

    def interrupted(path, **options):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        remove(path, **options)

    monkeypatch.setattr(running.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), running._staged(config, keep=False):
        (tmp_path / "runner.part").mkdir()
        (tmp_path / "runner.part" / "log").touch()
    assert len(calls) == 3 and not list(tmp_path.iterdir())


def test_the_terminal_shows_the_parts_beside_the_whole():
    part = {"miou": None, "accuracy": 0.5}
    scores = {"miou": 0.25, "accuracy": 0.5, "parts": {"things12": part, "stuff15": part}}
    assert percent(scores) == "25.00 / 50.00 [things12 - / 50.00, stuff15 - / 50.00]"
