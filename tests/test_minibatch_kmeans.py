"""Mini-batch k-means against the original's update, and against a plain loop."""

from __future__ import annotations

import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.helpers.oracles import unit, wave
from vice import minibatch_kmeans
from vice.errors import UserError
from vice.minibatch_kmeans import MiniBatchKMeans, assign, move

IMAGES, DIM, SIDE = 12, 6, 5


def test_the_update_of_the_counts_and_centroids_is_the_originals():
    centroids = torch.from_numpy(0.8 * wave((4, 3), 2.1, 0.5))
    centroids[0] /= 2
    start, counts = centroids.clone(), torch.tensor([3.0, 5.0, 2.0, 0.0], dtype=torch.float64)
    for shift in (0.3, 1.3):
        points = torch.from_numpy(np.apply_along_axis(unit, 1, wave((6, 3), 1.1, shift)))
        labels, _ = assign(centroids, points)
        chosen = torch.nn.functional.one_hot(labels, 4).double()
        centroids, counts = move(centroids, counts, chosen.T @ points, chosen.sum(0))
    assert counts.tolist() == [12, 5, 2, 3]
    np.testing.assert_allclose(centroids[0], [-0.16517002, 0.00812187, 0.07372244], atol=5e-9)
    np.testing.assert_allclose(centroids[3], [0.77572079, 0.32192310, -0.48367489], atol=5e-9)
    assert torch.equal(centroids[1:3], start[1:3])


def maps_of(images: int = IMAGES) -> torch.Tensor:
    """Unit vectors around a few directions."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(4, DIM))
    kinds = rng.integers(0, 4, (images, SIDE, SIDE))
    vectors = directions[kinds] + 0.3 * rng.normal(size=(images, SIDE, SIDE, DIM))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return torch.from_numpy(vectors.transpose(0, 3, 1, 2)).float().contiguous()


def fit(rank: int, ranks: int, group: int, options: dict) -> dict[str, object]:
    """Groups of so many maps, of which each rank has a contiguous piece."""
    maps = maps_of()
    kmeans = MiniBatchKMeans(4, DIM, init_maps=2 * group, **options)
    for start in range(0, IMAGES, group):
        share = -(-group // ranks)
        own = list(range(start, min(start + group, IMAGES)))[rank * share : (rank + 1) * share]
        # As an embedder in bounded memory gives them: a few at a time.
        for piece in (own[:1], own[1:]):
            kmeans.add(maps[piece], piece)
        kmeans.end_group()
    kmeans.finish()
    labels = assign(kmeans.centroids, maps)[0]
    return {
        "centroids": kmeans.centroids.numpy(),
        "counts": kmeans.counts.numpy(),
        "loss": kmeans.loss,
        "labels": labels.byte().numpy(),
        "exact": kmeans.exact,
    }


def by_hand(start: np.ndarray, points: np.ndarray, iterations: int) -> np.ndarray:
    """Lloyd's algorithm, point by point."""
    centroids = start.copy()
    for _ in range(iterations):
        nearest = ((points[:, None] - centroids) ** 2).sum(2).argmin(1)
        centroids = np.stack([points[nearest == k].mean(0) for k in range(len(start))])
    return centroids


def test_the_start_is_lloyds_and_further_groups_move_it_by_their_share(monkeypatch, tmp_path):
    maps = maps_of()
    points = maps.double().permute(0, 2, 3, 1).reshape(IMAGES, -1, DIM).numpy()
    first = points[:8].reshape(-1, DIM)
    start = first[np.random.default_rng(3).permutation(len(first))[:4]]
    expected = by_hand(start, first, 7)
    nearest = ((first[:, None] - expected) ** 2).sum(2).argmin(1)
    counts = np.bincount(nearest, minlength=4).astype(float)
    losses = [((first - expected[nearest]) ** 2).sum(1).mean()]
    late = points[8:].reshape(-1, DIM)
    nearest = ((late[:, None] - expected) ** 2).sum(2).argmin(1)
    losses.append(((late - expected[nearest]) ** 2).sum(1).mean())
    for k in range(4):
        mine = late[nearest == k]
        counts[k] += len(mine)
        eta = len(mine) / (counts[k] + 1e-6)
        expected[k] = (1 - eta) * expected[k] + eta * mine.mean(0)
    monkeypatch.setattr(minibatch_kmeans, "_CHUNK", 7)
    for points_kept in (10**6, None):
        options = {"init_groups": 2, "iterations": 7, "seed": 3, "scratch": tmp_path}
        found = fit(0, 1, 4, {**options, "init_points": points_kept})
        np.testing.assert_allclose(found["centroids"], expected, atol=1e-5)
        assert found["counts"].tolist() == counts.tolist()
        assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_cluster_that_gets_empty_takes_half_of_another():
    points = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [5.0, 5.0], [5.2, 5.0], [9.0, 0.0]])
    kmeans = MiniBatchKMeans(4, 2, init_groups=1, init_maps=1, iterations=30)
    kmeans.add([points.T], [0])
    kmeans.end_group()
    # Equal points cannot fill several clusters: those that start there are split away.
    assert int((kmeans.counts > 0).sum()) == 4
    assert kmeans.loss == pytest.approx(0, abs=1e-6)


def test_too_few_points_and_too_little_disk_are_said_before_the_work(tmp_path, monkeypatch, caplog):
    kmeans = MiniBatchKMeans(30, DIM, init_groups=1, init_maps=1)
    kmeans.add(maps_of(1), [0])
    with pytest.raises(UserError, match="25 vectors cannot make 30 clusters"):
        kmeans.end_group()
    kmeans = MiniBatchKMeans(
        4, DIM, init_groups=2, init_maps=10**6, init_points=None, scratch=tmp_path
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    with caplog.at_level(logging.INFO), pytest.raises(UserError, match=r"0\.6 GiB .* 0\.0 GiB"):
        kmeans.add(maps_of(1), [0])
    assert "25000000 vectors of 6 dimensions are kept on the disk, 0.6 GiB" in caplog.text


def test_a_sample_is_said_to_be_one(caplog):
    kmeans = MiniBatchKMeans(4, DIM, init_groups=1, init_maps=IMAGES, init_points=60)
    kmeans.add(maps_of(), range(IMAGES))
    with caplog.at_level(logging.INFO):
        kmeans.end_group()
    assert "start from 60 of 300 vectors of 6 dimensions (not exact: a sample)" in caplog.text
    assert not kmeans.exact
    # It stands for all that were seen, so that later groups move it by their true share.
    assert float(kmeans.counts.sum()) == pytest.approx(300)
