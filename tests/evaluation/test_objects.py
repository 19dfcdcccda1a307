"""Clusters of objects against figures worked out apart and label maps counted pixel by pixel."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from vice.errors import UserError
from vice.evaluation.objects import (
    ObjectClusters,
    ObjectVectors,
    count_foreground,
    foreground_of,
    object_vector,
)
from vice.scoring import CountTable


def wave(shape, a, b):
    return np.sin(a * np.arange(np.prod(shape)) + b).reshape(shape)


def test_object_vectors_weigh_raw_embeddings_with_raw_logits():
    embeddings = torch.from_numpy(wave((2, 3, 3, 3), 0.9, 0.4))
    logits = torch.from_numpy(2 * wave((2, 3, 3), 1.4, 0.6))
    expected = [(-0.03298509, 0.91112306, -0.41081230), (-0.64926060, 0.69396863, 0.31123659)]
    for embedding, logit, vector in zip(embeddings, logits, expected, strict=True):
        mask, weights = foreground_of(logit[None], (3, 3), "logit")
        assert torch.equal(mask, logit.float() > 0.5)
        torch.testing.assert_close(
            object_vector(embedding, weights), torch.tensor(vector), atol=1e-6, rtol=0
        )
    likely, _ = foreground_of(logits[:1], (3, 3), "probability")
    assert torch.equal(likely, torch.sigmoid(logits[0]) > 0.5)
    assert not object_vector(embeddings[0], torch.zeros(3, 3)).any()


def test_an_embedding_is_upsampled_to_the_mask():
    embedding = torch.from_numpy(wave((70, 3, 4), 0.3, 0.1)).float()
    weights = torch.from_numpy(wave((9, 8), 0.5, 0.2)).float().clamp(min=0)
    large = torch.nn.functional.interpolate(embedding[None], (9, 8), mode="bilinear")[0]
    expected = torch.nn.functional.normalize((large * weights).sum((1, 2)), dim=0)
    torch.testing.assert_close(object_vector(embedding, weights), expected)


def test_the_table_is_that_of_the_predicted_maps():
    rng = np.random.default_rng(0)
    objects, table = ObjectVectors(), CountTable(4, 3)
    clusters = [2, 0, 2, 1, 0]
    for cluster in clusters:
        mask = torch.from_numpy(rng.random((4, 6)) < 0.4)
        label = torch.from_numpy(rng.choice([0, 1, 2, 255], (8, 9)))
        objects.vectors.append(torch.ones(2))
        objects.counts.append(count_foreground(mask, label, 3))
        rows, columns = np.arange(8) * 4 // 8, np.arange(9) * 6 // 9
        table.update(np.where(mask.numpy()[rows][:, columns], 1 + cluster, 0), label)
    assert torch.equal(objects.tables(clusters, 4).total().counts, table.counts)
    assert objects.without == 0


def groups(number, dim=6, seed=0):
    """Objects in three directions."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, number)
    vectors = np.eye(dim)[kinds] + rng.normal(0, 0.02, (number, dim))
    return kinds, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_clusters_are_fitted_on_some_objects_and_found_in_others():
    pytest.importorskip("sklearn")
    _, fitted = groups(90)
    kinds, others = groups(50, seed=1)
    found = ObjectClusters(fitted, 3, components=2, seed=1235)
    assigned = found.assign(others)
    assert len({(k, c) for k, c in zip(kinds, assigned, strict=True)}) == len(set(kinds)) == 3
    again = ObjectClusters(fitted, 3, components=2, seed=1235)
    assert (again.assign(others) == assigned).all()


def test_what_cannot_be_clustered_is_named(monkeypatch):
    pytest.importorskip("sklearn")
    _, vectors = groups(20)
    with pytest.raises(UserError, match="20 objects of 6 dimensions cannot make 3 clusters of 32"):
        ObjectClusters(vectors, 3)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(UserError, match="needs scikit-learn: pip install scikit-learn"):
        ObjectClusters(vectors, 3, components=2)
