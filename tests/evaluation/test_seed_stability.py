"""Agreement of runs in their clusters, against scikit-learn on whole maps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import vice.evaluation.seed_stability
from tests.helpers.untrained import draw_images, make_run
from vice.errors import UserError
from vice.evaluation.seed_stability import cluster_stability
from vice.images import read_image, standardize
from vice.models import seeded_embedder
from vice.models.checkpoint import load_checkpoint, save_run
from vice.predictor import load


@pytest.fixture
def images(tmp_path):
    return draw_images(tmp_path)


@pytest.fixture
def runs(tmp_path):
    return [make_run(tmp_path / str(seed), seed) for seed in range(3)]


@pytest.mark.parametrize("sizes", [None, {"mode": "lowres", "square": 40}])
def test_each_pair_of_seeds_is_scikit_learns(runs, images, sizes):
    metrics = pytest.importorskip("sklearn.metrics")
    pixels = [standardize(read_image(image), **(sizes or {"mode": "none"})) for image in images]
    predictors = [load(run, "cpu") for run in runs]
    maps = [
        np.concatenate([predictor.segment(image).numpy().ravel() for image in pixels])
        for predictor in predictors
    ]
    found = cluster_stability(runs, images, sizes=sizes)
    assert list(found) == list(itertools.combinations(range(3), 2))
    for (i, j), scores in found.items():
        assert scores["adjusted_rand_index"] == pytest.approx(
            metrics.adjusted_rand_score(maps[i], maps[j])
        )
        assert scores["normalized_mutual_information"] == pytest.approx(
            metrics.normalized_mutual_info_score(maps[i], maps[j])
        )


def test_each_run_is_loaded_once_and_agrees_with_itself(runs, images, monkeypatch):
    loaded = []

    def count(path, **options):
        loaded.append(path)
        return load_checkpoint(path, **options)

    monkeypatch.setattr(vice.evaluation.seed_stability, "load_checkpoint", count)
    found = cluster_stability([runs[0], *runs], images)
    assert loaded == [runs[0], *runs] and len(found) == 6
    assert list(found[0, 1].values()) == pytest.approx([1.0, 1.0])
    assert found[0, 2] == found[1, 2] != found[0, 1]


def test_what_cannot_be_compared(runs, images, tmp_path, caplog):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with caplog.at_level("WARNING"):
        found = cluster_stability(runs[:2], [broken, *images])
    assert found == cluster_stability(runs[:2], images) and "broken.png" in caplog.text
    with pytest.raises(UserError, match="none of the 1 images"):
        cluster_stability(runs[:2], [broken])
    bare = tmp_path / "bare"
    save_run(bare, seeded_embedder(0, backbone="resnet18", decoder="fpn", dim=8, stages=1))
    with pytest.raises(UserError, match="holds no prototypes"):
        cluster_stability([runs[0], bare], images)
