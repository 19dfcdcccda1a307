from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vice.plugins.mmseg.evaluate_linear import evaluate_linear

from .helpers import LINEAR, PROBE, QUIET, TinyEmbedder, read_label, rescore


def probe_weights(out):
    state = torch.load(out / "runner" / "iter_40.pth", weights_only=False)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("decode_head")}


def test_linear_learns_and_leaves_evidence(tiny, make_folder, tmp_path, caplog):
    root, out = make_folder(), tmp_path / "out"
    (root / "images" / "val" / "photo.NEF").touch()
    with caplog.at_level(logging.INFO, "vice.images.lists"):
        result = evaluate_linear(tiny, root, out, **LINEAR, max_maps=99)
    line = f"{root / 'images' / 'val'}: 5 images (.png 5); ignored: .NEF 1"
    assert [record.message for record in caplog.records].count(line) == 1
    images, labels = result["dataset"]["found"]["score"]
    assert images["ignored"] == {".NEF": 1} and labels["used"] == {".png": 5}
    scores = result["linear"]
    assert scores["accuracy"] > 0.85 and scores["miou"] > 0.7
    assert scores["iou_per_class"]["never seen"] is None
    assert json.loads((out / "results.json").read_text()) == result
    assert result["dataset"]["images"] == {"fit": 6, "score": 5}
    loss = result["probe"].pop("loss")
    assert result["probe"] == {"optimizer": "sgd", "iterations": 40} and 0 < loss < np.log(4)
    assert result["absent"] == {"fit": ["never seen"], "score": ["never seen"]}
    assert scores["classes_in_mean"] == 3
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


def embed_split(root, split):
    """All labelled pixels of a split at image size, and the embeddings, by PyTorch alone."""
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    embedder, found = TinyEmbedder().eval(), []
    for path in sorted((root / "images" / split).iterdir()):
        image = torch.from_numpy(np.asarray(Image.open(path)).astype("f4"))
        with torch.no_grad():
            coarse = embedder(((image - mean) / std).permute(2, 0, 1)[None])
        fine = F.interpolate(coarse, image.shape[:2], mode="bilinear")[0].flatten(1).T
        found.append((fine.double().numpy(), read_label(root, split, path.stem)))
    return found


def test_converged_probe_is_scikit_learns_logistic_regression(tiny, make_folder, tmp_path):
    """On all labelled pixels, from the files to the maps."""
    root, out = make_folder(), tmp_path / "out"
    changes = {"linear_optimizer": "lbfgs", "linear_l2": 1e-3}
    result = evaluate_linear(tiny, root, out, **QUIET, changes=changes, max_maps=99)
    fit = [(x[y.flatten() != 255], y[y != 255]) for x, y in embed_split(root, "train")]
    features, labels = (np.concatenate(part) for part in zip(*fit, strict=True))
    probe = result["probe"]
    assert (probe["optimizer"], probe["converged"], probe["l2"]) == ("lbfgs", True, 1e-3)
    assert probe["pixels"] == len(labels) and 0 < probe["iterations"] < 1000
    regression = LogisticRegression(C=1 / (1e-3 * len(labels)), tol=1e-8, max_iter=10**4)
    oracle = make_pipeline(StandardScaler(), regression).fit(features, labels)
    for i, (x, y) in enumerate(embed_split(root, "val")):
        written = np.asarray(Image.open(out / "maps" / "linear" / f"{i:02d}.png"))
        assert np.mean(oracle.predict(x).reshape(y.shape) == written) > 0.998
    state = torch.load(out / "runner" / "fitted.pth", weights_only=False)
    weight = state["state_dict"]["decode_head.conv_seg.weight"][:, :, 0, 0].double().numpy()
    bias = state["state_dict"]["decode_head.conv_seg.bias"].double().numpy()
    scores = (features @ weight.T + bias)[:, :3]
    ours, theirs = scores - scores.mean(1, keepdims=True), oracle.decision_function(features)
    np.testing.assert_allclose(ours, theirs - theirs.mean(1, keepdims=True), atol=0.02)
    assert result["linear"]["iou_per_class"]["never seen"] is None
    assert any(name.startswith("backbone.") for name in state["state_dict"])
    assert len(state["meta"]["dataset_meta"]["classes"]) == 4


def test_a_fit_that_was_cut_short_says_so(tiny, make_folder, tmp_path, caplog):
    changes = {"linear_optimizer": "lbfgs", "linear_iterations": 2, "linear_pixels": 500}
    evaluate_linear(tiny, make_folder(), tmp_path / "out", **QUIET, changes=changes)
    probe = json.loads((tmp_path / "out" / "results.json").read_text())["probe"]
    assert (probe["converged"], probe["iterations"], probe["pixels"]) == (False, 2, 500)
    assert "has NOT converged: 2 iterations on 500 pixels" in caplog.text


def test_options_reach_the_config_last(tiny, make_folder, tmp_path):
    options = {"optim_wrapper.optimizer.lr": 0.5}
    result = evaluate_linear(tiny, make_folder(), tmp_path / "out", **LINEAR, options=options)
    assert result["config"]["optim_wrapper"]["optimizer"]["lr"] == 0.5
