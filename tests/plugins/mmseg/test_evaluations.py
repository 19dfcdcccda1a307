from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from vice.centroids import Centroids
from vice.errors import UserError
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.scoring import CountTable

from .helpers import read_label

QUIET = {"log_level": "ERROR", "device": "cpu"}
PROBE = {"linear_iterations": 40, "linear_batch": 4}
LINEAR = {**QUIET, "changes": PROBE}
CLUSTERS = {**QUIET, "clusters": [2, 4, 9], "changes": {"kmeans_pixels": 3000}}


@pytest.fixture
def poison():
    """Turns the labels of a split round, so that whoever uses them finds something else."""

    def spoil(root, split):
        for path in (root / "labels" / split).iterdir():
            label = np.asarray(Image.open(path)).copy()
            label[label != 255] = (label[label != 255] + 1) % 3
            Image.fromarray(label).save(path)

    return spoil


def probe_weights(out):
    state = torch.load(out / "runner" / "iter_40.pth", weights_only=False)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("decode_head")}


def rescore(root, folder, classes, mapping=None):
    """Scores written maps against the label files, apart from MMSegmentation."""
    table = CountTable(classes, classes)
    for path in sorted(folder.iterdir()):
        table.update(np.asarray(Image.open(path)), read_label(root, "val", path.stem))
    return table


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


def test_clusters_are_found_and_leave_evidence(tiny, make_folder, tmp_path):
    root, out = make_folder(), tmp_path / "out"
    result = evaluate_clusters(tiny, root, out, **CLUSTERS, max_maps=99)
    assert list(result["clusters"]) == ["2", "4", "9"]
    nine = result["clusters"]["9"]
    assert nine["greedy"]["accuracy"] > 0.8 and nine["hungarian"]["accuracy"] > 0.3
    assert nine["greedy"]["fitted_on"] == "train" and nine["hungarian"]["fitted_on"] == "val"
    assert json.loads((out / "results.json").read_text()) == result
    counts = json.loads((out / "counts.json").read_text())
    for k, entry in result["clusters"].items():
        fit, score = CountTable(int(k), 4), CountTable(int(k), 4)
        fit.counts[:] = torch.tensor(counts["fit"][k])
        score.counts[:] = torch.tensor(counts["score"][k])
        for kind, mapping in (("greedy", fit.greedy()), ("hungarian", score.hungarian())):
            assert entry[kind]["mapping"] == mapping.tolist()
            assert entry[kind]["miou"] == pytest.approx(score.miou(mapping))
        assert json.loads((out / f"mapping_{k}.json").read_text()) == fit.greedy().tolist()
        table = rescore(root, out / "maps" / f"clusters_{k}", 4)
        assert table.accuracy(table.identity()) == pytest.approx(entry["greedy"]["accuracy"])


def test_no_fit_sees_the_scored_labels(tiny, make_folder, tmp_path, poison):
    root = make_folder()
    one = evaluate_clusters(tiny, root, tmp_path / "one", **CLUSTERS)
    poison(root, "val")
    two = evaluate_clusters(tiny, root, tmp_path / "two", **CLUSTERS)
    for k in ("2", "4", "9"):
        centroids = [
            Centroids.load(tmp_path / name / f"centroids_{k}.safetensors").vectors
            for name in ("one", "two")
        ]
        assert torch.equal(*centroids)
        mappings = [result["clusters"][k]["greedy"]["mapping"] for result in (one, two)]
        assert mappings[0] == mappings[1]
    assert two["clusters"]["9"]["greedy"]["accuracy"] < 0.2
    # The Hungarian matching is taken on the scored labels, and turns with them.
    assert two["clusters"]["9"]["hungarian"] != one["clusters"]["9"]["hungarian"]


def test_centroids_do_not_see_the_labels_at_all(tiny, make_folder, tmp_path, poison):
    root = make_folder()
    evaluate_clusters(tiny, root, tmp_path / "one", **CLUSTERS)
    poison(root, "train")
    evaluate_clusters(tiny, root, tmp_path / "two", **CLUSTERS)
    one, two = (
        Centroids.load(tmp_path / name / "centroids_4.safetensors") for name in ("one", "two")
    )
    assert torch.equal(one.vectors, two.vectors)


def test_lab_floor_is_euclidean_and_solves_colours(make_folder, tmp_path):
    out = tmp_path / "out"
    result = evaluate_clusters("lab", make_folder(), out, **CLUSTERS)
    assert result["model"]["spherical"] is False
    assert not Centroids.load(out / "centroids_9.safetensors").spherical
    assert result["clusters"]["9"]["greedy"]["accuracy"] > 0.9


def test_options_reach_the_config_last(tiny, make_folder, tmp_path):
    options = {"optim_wrapper.optimizer.lr": 0.5}
    result = evaluate_linear(tiny, make_folder(), tmp_path / "out", **LINEAR, options=options)
    assert result["config"]["optim_wrapper"]["optimizer"]["lr"] == 0.5


def test_global_state_is_given_back(tiny, make_folder, tmp_path):
    import cv2
    import torch.multiprocessing as mp

    before = cv2.getNumThreads(), mp.get_start_method(allow_none=True)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    evaluate_clusters(tiny, make_folder(), tmp_path / "out", **{**CLUSTERS, "clusters": [2]})
    assert torch.equal(torch.rand(3), expected)
    assert (cv2.getNumThreads(), mp.get_start_method(allow_none=True)) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": {"score_split": "train"}}, "two splits"),
        ({"changes": {"score_split": "test"}}, "no such folder"),
        ({"changes": {"fit_labels": False}}, "greedy matching needs labels"),
        ({"clusters": []}, "one or more"),
        ({"clusters": [3, 3]}, "different"),
        ({"clusters": [5000]}, "cannot make 5000 clusters"),
    ],
)
def test_bad_input_is_named(tiny, make_folder, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        evaluate_clusters(tiny, make_folder(), tmp_path / "out", **{**CLUSTERS, **options})
