"""Evaluations of a row that can share their passes do, and say what they said before."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("mmseg")

from vice.experiments.reproduce import evaluations
from vice.experiments.reproduce.evaluations import evaluate
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.tables import Experiment, load_scale

LBFGS = {"linear_optimizer": "lbfgs", "linear_pixels": 1000}
MINIBATCH = {"clusters": "minibatch", "minibatch_images": 2, "minibatch_init": 1}
RETRIEVAL = {"retrieval_memory": 200}
ROW = Experiment(
    "row",
    evaluate={
        "clusters": {
            "kind": "clusters",
            "dataset": "camvid",
            "clusters": [3],
            "cache_bytes": 10**6,
        },
        "converged": {"kind": "linear", "dataset": "camvid", "changes": LBFGS},
        "steps": {"kind": "linear", "dataset": "camvid"},
        "retrieval": {"kind": "retrieval", "dataset": "camvid", "changes": RETRIEVAL},
        "own": {"kind": "clusters", "dataset": "camvid", "clusters": [3], "changes": MINIBATCH},
    },
)


def read(folder):
    found = {
        path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/results.json")
    }
    assert len(found) == 5
    return found


def test_clusters_a_converged_probe_and_retrieval_share_passes(stripes, tmp_path, monkeypatch):
    plan = ReproducePlan(tmp_path, load_scale("tiny"), datasets={"*": str(stripes)}, device="cpu")
    asked = []
    real = evaluations._evaluate
    monkeypatch.setattr(
        evaluations, "_evaluate", lambda kind, *rest: asked.append(kind) or real(kind, *rest)
    )
    spec = "random:resnet18-fpn-8"
    together = evaluate(ROW, spec, 0, tmp_path / "one", plan)
    assert asked == ["linear", "clusters"]
    # Two evaluations of clusters stand under names of their own.
    assert {"3 greedy", "own 3 greedy"} < together.keys()
    assert evaluate(ROW, spec, 0, tmp_path / "one", plan) == together and len(asked) == 2
    monkeypatch.setattr(evaluations, "_share_passes", lambda *_: None)
    assert evaluate(ROW, spec, 0, tmp_path / "two", plan) == together
    assert asked[2:] == ["clusters", "linear", "linear", "retrieval", "clusters"]
    one, two = read(tmp_path / "one"), read(tmp_path / "two")
    # Names hold the keys of finished rows.
    assert one.keys() == two.keys()
    shared = [name for name, result in one.items() if "one_pass" in result]
    assert len(shared) == 3
    for name in shared:
        assert one[name]["protocol"] == two[name]["protocol"]
        assert one[name][one[name]["kind"]] == two[name][two[name]["kind"]]
