"""The dense conditional random field; with the package also through whole evaluations."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from vice.errors import UserError
from vice.evaluation.dense_crf import refine
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear

from .helpers import QUIET, rescore

CRF = {"crf": "dense", "kmeans_pixels": 2000, "linear_optimizer": "lbfgs", "linear_pixels": 2000}
needs_package = pytest.mark.skipif(
    importlib.util.find_spec("pydensecrf") is None, reason="needs pydensecrf2"
)


def test_its_absence_is_one_line(tiny, make_folder, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pydensecrf" else find(name)
    )
    root = make_folder()
    for evaluate in (evaluate_clusters, evaluate_linear):
        with pytest.raises(UserError, match="pip install pydensecrf2$"):
            evaluate(tiny, root, tmp_path / "out", **QUIET, changes=CRF)
    assert not (tmp_path / "out").exists()


def test_clusters_without_cosines_are_refused(make_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("vice.plugins.mmseg.evaluate_clusters.check_crf", lambda: None)
    with pytest.raises(UserError, match="refines cosines with unit centroids"):
        evaluate_clusters("lab", make_folder(), tmp_path / "out", **QUIET, changes=CRF)


@needs_package
def test_labels_follow_the_edges_of_the_image():
    image = np.full((20, 24, 3), 40, np.uint8)
    image[:, 12:] = 210
    truth = (np.arange(24) >= 12).astype(int)[None].repeat(20, 0)
    noisy, rng = truth.copy(), np.random.default_rng(0)
    flipped = rng.random(truth.shape) < 0.15
    noisy[flipped] = 1 - noisy[flipped]
    log = np.log(np.where(np.arange(2)[:, None, None] == noisy, 0.7, 0.3)).astype(np.float32)
    assert (noisy != truth).sum() > 40
    assert (refine(log, image) != truth).sum() == 0


@needs_package
def test_evaluations_are_refined(tiny, make_folder, tmp_path):
    root = make_folder()
    for evaluate, kind, name in (
        (evaluate_clusters, "clusters", "clusters_4"), (evaluate_linear, "linear", "linear")
    ):  # fmt: skip
        more = {"clusters": [4]} if kind == "clusters" else {}
        found = {}
        for crf in ("none", "dense"):
            out = tmp_path / f"{kind}-{crf}"
            result = evaluate(
                tiny, root, out, **QUIET, **more, changes={**CRF, "crf": crf}, max_maps=99
            )
            scores = result[kind]["4"]["greedy"] if more else result[kind]
            table = rescore(root, out / "maps" / name, 4)
            assert table.accuracy(table.identity()) == pytest.approx(scores["accuracy"])
            found[crf] = scores["accuracy"]
        assert found["dense"] != found["none"] and found["dense"] > found["none"] - 0.05
