from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from vice.clustering import BYTES_PER_ASSIGNMENT, count_distinct, fit_kmeans, fit_several
from vice.errors import UserError

faiss = pytest.importorskip("faiss")


def blobs(seed=0, each=200, spread=0.05):
    rng = np.random.default_rng(seed)
    centers = np.eye(4, 6, dtype=np.float32) * 3
    noise = rng.normal(0, spread, (4, each, 6)).astype(np.float32)
    return torch.from_numpy((centers[:, None] + noise).reshape(-1, 6)), centers


@pytest.mark.parametrize("spherical", [True, False])
def test_finds_separated_blobs(spherical):
    vectors, centers = blobs()
    found = fit_kmeans(vectors, 4, spherical=spherical, iterations=15, seed=1)
    expected = centers / 3 if spherical else centers
    distances = np.linalg.norm(found.vectors.numpy()[:, None] - expected[None], axis=-1)
    assert sorted(distances.argmin(1).tolist()) == [0, 1, 2, 3]
    assert distances.min(1).max() < 0.05
    assert found.spherical is spherical and found.seed == 1 and 1 < len(found.objective) <= 15


def test_spherical_ignores_length_and_makes_unit_centroids():
    vectors, _ = blobs()
    # Powers of two, so that normalising gives the same bits.
    scale = 2.0 ** torch.randint(-3, 4, (len(vectors), 1))
    one, two = fit_kmeans(vectors, 5), fit_kmeans(vectors * scale, 5)
    assert torch.equal(one.vectors, two.vectors)
    torch.testing.assert_close(one.vectors.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("spherical", [True, False])
def test_centroids_are_the_means_of_their_vectors_in_float64(spherical):
    vectors, _ = blobs(spread=0.3)
    found = fit_kmeans(vectors, 4, spherical=spherical, iterations=40)
    points = vectors.double().numpy()
    if spherical:
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
    centroids = found.vectors.double().numpy()
    nearest = ((points[:, None] - centroids[None]) ** 2).sum(-1).argmin(1)
    for k in range(4):
        mean = points[nearest == k].mean(0)
        if spherical:
            mean /= np.linalg.norm(mean)
        np.testing.assert_allclose(centroids[k], mean, atol=1e-4)


def test_objective_improves_and_the_seed_decides():
    vectors = torch.randn(3000, 8, generator=torch.Generator().manual_seed(0))
    one, again, other = (fit_kmeans(vectors, 20, spherical=False, seed=s) for s in (0, 0, 1))
    assert one.objective[-1] < one.objective[0]
    assert torch.equal(one.vectors, again.vectors)
    assert not torch.equal(one.vectors, other.vectors)


def test_faiss_never_leaves_vectors_out(monkeypatch):
    # FAISS's own default would keep 256 vectors a centroid; its objective is a sum over all used.
    seen = []
    train = faiss.Kmeans.train
    monkeypatch.setattr(
        faiss.Kmeans,
        "train",
        lambda self, x: (seen.append((len(x), self.cp.max_points_per_centroid)), train(self, x)),
    )
    vectors = torch.randn(1001, 4)
    found = fit_kmeans(vectors, 2, spherical=False, iterations=30)
    points, c = vectors.double(), found.vectors.double()
    total = float(torch.cdist(points, c).square().min(1).values.sum())
    assert found.objective[-1] == pytest.approx(total, rel=1e-3)
    assert seen[0][0] == 1001 and seen[0][1] * 2 >= 1001


def test_memory_limit_bounds_a_uniform_sample_and_is_logged(caplog, monkeypatch):
    used = []
    train = faiss.Kmeans.train
    monkeypatch.setattr(
        faiss.Kmeans, "train", lambda self, x: (used.append(x.copy()), train(self, x))[1]
    )
    vectors = torch.arange(4000, dtype=torch.float32)[:, None].repeat(1, 4)
    with caplog.at_level(logging.INFO, logger="vice.clustering"):
        fit_kmeans(vectors, 4, spherical=False, memory_limit=500 * (16 + 12))
    assert used[0].shape == (500, 4)
    assert len(np.unique(used[0][:, 0])) == 500
    assert 1800 < used[0][:, 0].mean() < 2200
    assert "500 of 4000 vectors" in caplog.text and "MiB" in caplog.text


def test_the_vectors_passed_in_are_left_alone():
    vectors, _ = blobs()
    before = vectors.clone()
    fit_kmeans(vectors, 3)
    fit_kmeans(vectors, 3, memory_limit=100 * 36)
    assert torch.equal(vectors, before)


@pytest.mark.parametrize(
    ("vectors", "k", "limit", "message"),
    [
        (torch.ones(3, 2), 4, 10**6, "3 vectors cannot make 4 clusters"),
        (torch.tensor([[1.0, 2], [float("nan"), 0], [float("inf"), 1]]), 2, 10**6, "2 of 3"),
        (torch.ones(9), 2, 10**6, "shape"),
        (torch.ones(9, 2, dtype=torch.int64), 2, 10**6, "floating-point"),
        (torch.ones(9, 2), 0, 10**6, "at least 1"),
        (torch.ones(9, 2), 4, 40, "memory_limit 40"),
    ],
)
def test_bad_input_is_named(vectors, k, limit, message):
    with pytest.raises(UserError, match=message):
        fit_kmeans(vectors, k, memory_limit=limit)


def test_without_a_gpu_for_faiss_the_message_says_so(monkeypatch):
    import faiss

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    with pytest.raises(UserError, match="needs a GPU and a FAISS built for it: pip install"):
        fit_kmeans(torch.randn(20, 4), 2, gpu=True)


@pytest.mark.parametrize("spherical", [True, False])
def test_distinct_vectors_and_clusters_that_hold_any_are_counted(spherical, caplog):
    few = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    vectors = few[torch.arange(300) % 3]
    with caplog.at_level(logging.INFO, "vice"):
        found = fit_kmeans(vectors, 5, spherical=spherical)
    assert (found.vectors_fitted, found.distinct) == (300, 3)
    assert found.occupied <= 3
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [line[:46] for line in warned] == ["k-means: only 3 of 300 vectors are distinct, f"]
    assert "3 of 300 vectors are distinct; " in caplog.text
    good = fit_kmeans(blobs()[0], 4, spherical=spherical)
    assert (good.occupied, good.vectors_fitted) == (4, 800) and good.distinct > 700


@pytest.mark.parametrize("spherical", [True, False])
@pytest.mark.parametrize(
    ("distinct", "clusters", "said"),
    [
        (1, (2,), "fewer than 2 clusters: the embedding is the same everywhere"),
        (1, (2, 5, 9), "fewer than 2 clusters: the embedding is the same everywhere"),
        (3, (2, 5, 9), "fewer than 5 clusters: the embedding is of few values everywhere"),
        (3, (2, 3), None),
        (1, (1,), None),
    ],
)
def test_a_collapsed_embedding_is_warned_of_once(distinct, clusters, said, spherical, caplog):
    few = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))[:distinct]
    with caplog.at_level(logging.WARNING, "vice"):
        fits = list(fit_several(few[torch.arange(90) % distinct], clusters, spherical=spherical))
    assert [fit.distinct for fit in fits] == [distinct] * len(clusters)
    warned = [line for line in caplog.messages if "fewer than" in line]
    assert len(warned) == (said is not None)
    assert all(said in line for line in warned)


def test_distinct_vectors_are_those_of_numpy():
    rng = np.random.default_rng(0)
    for count, dim in ((1, 1), (500, 3), (10_000, 2)):
        points = rng.integers(-3, 4, (count, dim)).astype(np.float32)
        points[0] = 3
        wanted = len(np.unique(points, axis=0))
        assert count_distinct(torch.from_numpy(points)) == wanted
        # Rounding of the last bits makes no new vectors.
        shaken = points * (1 + rng.normal(0, 1e-7, points.shape)).astype(np.float32)
        assert count_distinct(torch.from_numpy(shaken)) == wanted
    assert count_distinct(torch.zeros(9, 4)) == 1


def test_vectors_beyond_the_memory_limit_are_told_once(caplog):
    vectors = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    each = 4 * 4 + BYTES_PER_ASSIGNMENT
    limit = 100 * each
    found = list(fit_several(vectors, (2, 3), memory_limit=limit))
    assert [(fit.vectors_fitted, fit.beyond_memory) for fit in found] == [(100, 200)] * 2
    assert caplog.text.count("200 of 300 vectors have no part in it") == 1
    caplog.clear()
    assert fit_kmeans(vectors, 2).beyond_memory == 0 and "no part in it" not in caplog.text
