"""Stability between seeds and label-free scores of a row, from finished runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.untrained import make_run
from vice.experiments.reproduce import label_free
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.tables import Experiment, load_scale
from vice.models.checkpoint import load_checkpoint, save_run
from vice.models.concepts import RAW, Concepts
from vice.models.training_state import states_of_epochs
from vice.predictor import load
from vice.runtime.run_folder import read_config

ROW = Experiment("row", "vice/demo", trained_on="coco27")


@pytest.fixture
def plan(stripes, tmp_path):
    return ReproducePlan(tmp_path, load_scale("tiny"), datasets={"*": str(stripes)}, device="cpu")


@pytest.fixture
def runs(tmp_path):
    return {seed: make_run(tmp_path / f"seed{seed}", seed) for seed in (0, 2)}


def test_stability_is_scikit_learns_and_is_found_once(plan, runs, stripes, monkeypatch):
    metrics = pytest.importorskip("sklearn.metrics")
    images = sorted((stripes / "images" / "val").iterdir())
    predictors = [load(run, "cpu") for run in runs.values()]
    maps = [
        np.concatenate([predictor.segment(image).numpy().ravel() for image in images])
        for predictor in predictors
    ]
    (pair,) = label_free.stability(ROW, runs, plan)
    assert pair["seeds"] == [0, 2]
    assert pair["adjusted_rand_index"] == pytest.approx(metrics.adjusted_rand_score(*maps))
    assert pair["normalized_mutual_information"] == pytest.approx(
        metrics.normalized_mutual_info_score(*maps)
    )

    calls = []
    compute = label_free.cluster_stability
    monkeypatch.setattr(
        label_free, "cluster_stability", lambda *a, **k: calls.append(a) or compute(*a, **k)
    )
    assert label_free.stability(ROW, runs, plan) == [pair] and not calls
    # Other weights, or another seed, are other results.
    checkpoint = load_checkpoint(runs[2])
    with torch.no_grad():
        checkpoint.prototypes.weight.copy_(checkpoint.prototypes.weight.flip(1))
    save_run(runs[2], checkpoint.embedder, checkpoint.prototypes)
    (other,) = label_free.stability(ROW, runs, plan)
    assert other != pair and len(calls) == 1
    more = label_free.stability(ROW, {**runs, 3: runs[0]}, plan)
    assert [found["seeds"] for found in more] == [[0, 2], [0, 3], [2, 3]] and len(calls) == 2
    assert more[0] == other and more[1]["adjusted_rand_index"] == pytest.approx(1)


def test_of_concepts_with_a_bias_the_last_epoch_is_taken(plan, runs):
    """As IIC's, which are no directions: views are not compared by them, and no row fails."""
    checkpoint = load_checkpoint(runs[0])
    vectors = checkpoint.required_concepts().vectors
    assert label_free.can_compare(runs[0])
    raw = Concepts(vectors, torch.arange(len(vectors)).float(), RAW)
    save_run(runs[0], checkpoint.embedder, raw, checkpoint.meta)
    assert not label_free.can_compare(runs[0])
    choice = label_free.choose(ROW, runs[0], 0, plan)
    assert choice["last"] and choice["path"] == str(runs[0] / "vice.safetensors")
    epochs = [epoch for epoch, _ in states_of_epochs(runs[0])]
    assert choice["epoch"] == max(epochs, default=0)


def test_scores_of_the_last_checkpoint_in_its_own_views_are_those_of_the_choice(plan, runs):
    choice = label_free.choose(ROW, runs[0], 0, plan)
    (scores,) = choice["scores"].values()
    settings = read_config(runs[0])["VICE"]
    found = label_free.last_scores(ROW, runs[0], settings, plan)
    assert found.pop("perplexity_over_k") == pytest.approx(scores["perplexity"] / 6)
    assert found == {name: scores[name] for name in found} and len(found) == 4


@pytest.mark.parametrize("missing", ["SUPERPIXELS", "PHOTOMETRIC", "LOSS"])
def test_a_method_without_such_options_is_measured_as_the_choice_does(plan, runs, missing):
    """As MDC's in a table without a row that all others are compared to."""
    settings = read_config(runs[0])["VICE"]
    del settings[missing]
    found = label_free.last_scores(ROW, runs[0], settings, plan)
    assert len(found) == 5 and all(value >= 0 for value in found.values())


def test_other_views_or_weights_are_measured_anew(plan, runs):
    settings = read_config(runs[0])["VICE"]
    first = label_free.last_scores(ROW, runs[0], settings, plan)
    harder = {**settings, "PHOTOMETRIC": {**settings["PHOTOMETRIC"], "strength": 2.0}}
    assert label_free.last_scores(ROW, runs[0], harder, plan) != first
    file = runs[0] / label_free.SCORES_NAME
    written = file.stat().st_mtime_ns
    label_free.last_scores(ROW, runs[0], harder, plan)
    assert file.stat().st_mtime_ns == written
    checkpoint = load_checkpoint(runs[2])
    save_run(runs[0], checkpoint.embedder, checkpoint.prototypes)
    other = label_free.last_scores(ROW, runs[0], settings, plan)
    assert other == label_free.last_scores(ROW, runs[2], settings, plan) != first
