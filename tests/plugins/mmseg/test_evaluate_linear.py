from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from vice.plugins.mmseg.evaluate_linear import evaluate_linear

from .helpers import LINEAR, PROBE, QUIET, rescore


def probe_weights(out):
    state = torch.load(out / "runner" / "iter_40.pth", weights_only=False)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("decode_head")}


def test_linear_learns_and_leaves_evidence(tiny, make_folder, tmp_path):
    root, out = make_folder(), tmp_path / "out"
    result = evaluate_linear(tiny, root, out, **LINEAR, max_maps=99)
    scores = result["linear"]
    assert scores["accuracy"] > 0.85 and scores["miou"] > 0.7
    assert scores["iou_per_class"]["never seen"] is None
    assert json.loads((out / "results.json").read_text()) == result
    assert result["dataset"]["images"] == {"fit": 6, "score": 5}
    assert result["classes"] == ["red", "green", "blue", "never seen"]
    assert {"torch", "vice"} <= set(result["versions"]) and result["seed"] == 0
    assert Config.fromfile(out / "runner" / "linear_folder.py").train_cfg.max_iters == 40
    assert result["maps"] == [f"maps/linear/{i:02d}.png" for i in range(5)]
    table = rescore(root, out / "maps" / "linear", 4)
    assert table.miou(table.identity()) == pytest.approx(scores["miou"])
    assert table.confusion(table.identity()).tolist() == result["confusion"]


def test_linear_probe_never_sees_the_scored_labels(tiny, make_folder, tmp_path, poison):
    root = make_folder()
    one = evaluate_linear(tiny, root, tmp_path / "one", **LINEAR)
    poison(root, "val")
    two = evaluate_linear(tiny, root, tmp_path / "two", **LINEAR, cache_bytes=10**8)
    weights = probe_weights(tmp_path / "one"), probe_weights(tmp_path / "two")
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-5, rtol=1e-4)
    assert two["linear"]["accuracy"] < 0.2 < one["linear"]["accuracy"]
    maps = (
        np.asarray(Image.open(tmp_path / n / "maps" / "linear" / "00.png")) for n in ("one", "two")
    )
    assert np.mean(np.equal(*maps)) > 0.99


def test_linear_bottleneck_runs(tiny, make_folder, tmp_path):
    changes = {**PROBE, "linear_bottleneck": 3}
    result = evaluate_linear(tiny, make_folder(), tmp_path / "out", **QUIET, changes=changes)
    assert result["linear"]["accuracy"] > 0.6
    assert result["config"]["model"]["decode_head"]["bottleneck"] == 3


def test_options_reach_the_config_last(tiny, make_folder, tmp_path):
    options = {"optim_wrapper.optimizer.lr": 0.5}
    result = evaluate_linear(tiny, make_folder(), tmp_path / "out", **LINEAR, options=options)
    assert result["config"]["optim_wrapper"]["optimizer"]["lr"] == 0.5
