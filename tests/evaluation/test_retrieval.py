"""Dense retrieval against loops in float64 that know nothing of the library."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.helpers.processes import run_processes
from vice.errors import UserError
from vice.evaluation.matchings import match
from vice.evaluation.retrieval import (
    MemorySampler,
    choose_patches,
    count_labels,
    patch_grid,
    to_patches,
)
from vice.neighbours import nearest_neighbours
from vice.scoring import CountTable

IMAGES, SIDE, PIXELS, DIM, CLASSES = 6, 4, 3, 5, 3


def images(seed=0):
    """Six images of 4 x 4 patches of 3 x 3 pixels, a twelfth of them ignored."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(IMAGES, DIM, SIDE, SIDE))
    labels = rng.integers(0, CLASSES, (IMAGES, SIDE * PIXELS, SIDE * PIXELS))
    labels[rng.random(labels.shape) < 1 / 12] = 255
    labels[0, :6, :6] = 1
    labels[1, :3] = 255
    return embeddings, labels.astype(np.uint8)


def loop_unit(vector):
    length = max(math.sqrt(sum(v * v for v in vector)), 1e-12)
    return [v / length for v in vector]


def loop_memory(embeddings, labels, each, seed, ignored):
    memory = []
    for index in range(len(embeddings)):
        noise = np.random.default_rng([seed, index]).random(SIDE * SIDE)
        patches, frequency = [], [0] * CLASSES
        for row in range(SIDE):
            for column in range(SIDE):
                counts = [0] * CLASSES
                for y in range(row * PIXELS, row * PIXELS + PIXELS):
                    for x in range(column * PIXELS, column * PIXELS + PIXELS):
                        value = int(labels[index][y][x])
                        if value == 255 and ignored == "class0":
                            value = 0
                        if value != 255:
                            counts[value] += 1
                vector = loop_unit([float(embeddings[index][d][row][column]) for d in range(DIM)])
                patches.append((vector, counts))
        for _, counts in patches:
            for c in range(CLASSES):
                frequency[c] += counts[c] > 0
        scores = [
            sum(frequency[c] for c in range(CLASSES) if counts[c]) * noise[p]
            if sum(counts)
            else math.inf
            for p, (_, counts) in enumerate(patches)
        ]
        order = sorted(range(len(patches)), key=scores.__getitem__)[:each]
        for p in sorted(p for p in order if scores[p] < math.inf):
            vector, counts = patches[p]
            memory.append((vector, [c / sum(counts) for c in counts]))
    return memory


def loop_classify(memory, query, k, temperature):
    cosines = [sum(a * b for a, b in zip(query, vector, strict=True)) for vector, _ in memory]
    best = sorted(range(len(memory)), key=lambda i: -cosines[i])[:k]
    weights = [math.exp(cosines[i] / temperature) for i in best]
    return [
        sum(w * memory[i][1][c] for w, i in zip(weights, best, strict=True)) / sum(weights)
        for c in range(CLASSES)
    ]


@pytest.mark.parametrize("ignored", ["class0", "left_out"])
def test_memory_and_labels_are_those_of_a_loop(ignored):
    embeddings, labels = images()
    sampler = MemorySampler(6 * 7 + 3, IMAGES, CLASSES, seed=4, ignored=ignored)
    for index in (3, 0, 5, 1, 2, 4):
        patches = to_patches(torch.from_numpy(embeddings[index : index + 1]))[0]
        sampler.add(patches, torch.from_numpy(labels[index]), index)
    known = sampler.describe()
    assert (known["images"], known["patches_of_each"], known["cells"]) == (6, 7, 16)
    assert known["unlabelled"] == np.mean(labels == 255)
    memory = sampler.memory(neighbours=5, temperature=0.1)
    expected = loop_memory(embeddings, labels, 7, 4, ignored)
    assert len(memory) == len(expected) == 42
    for name, values in zip(("vectors", "labels"), zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(getattr(memory, name), np.array(values), atol=1e-6)
    queries = np.random.default_rng(9).normal(size=(11, DIM))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    got = memory.classify(torch.from_numpy(queries))
    wanted = [loop_classify(expected, query, 5, 0.1) for query in queries.tolist()]
    np.testing.assert_allclose(got, np.array(wanted), atol=1e-5)


def test_neighbours_are_those_of_faiss_whatever_the_blocks(monkeypatch):
    faiss = pytest.importorskip("faiss")
    rng = np.random.default_rng(1)
    vectors = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(300, 6))).float())
    monkeypatch.setattr("vice.neighbours._QUERIES", 7)
    for block, k in ((300, 1), (41, 9), (4, 9), (1, 300)):
        monkeypatch.setattr("vice.neighbours._VECTORS", block)
        values, indices = nearest_neighbours(vectors[:50], vectors, k)
        others, same = faiss.knn(
            vectors[:50].numpy(), vectors.numpy(), k, metric=faiss.METRIC_INNER_PRODUCT
        )
        np.testing.assert_allclose(values, others, atol=1e-6)
        np.testing.assert_array_equal(indices, same)
        assert torch.equal(indices[:, 0], torch.arange(50))
    for k in (0, 301):
        with pytest.raises(ValueError, match=f"k is {k}; from 1 to the number of vectors, 300"):
            nearest_neighbours(vectors, vectors, k)


def test_patches_of_rare_classes_are_favoured():
    counts = torch.zeros(100, 2, dtype=torch.int64)
    counts[:, 0] = 9
    counts[::20] = torch.tensor([0, 9])
    taken = np.zeros(100)
    for seed in range(200):
        taken[choose_patches(counts, 10, np.random.default_rng(seed).random(100))] += 1
    # A score of 5 u lies below nearly all of 95 u.
    assert taken[::20].min() > 3 * np.delete(taken, np.arange(0, 100, 20)).max()
    nothing = torch.zeros(4, 2, dtype=torch.int64)
    assert len(choose_patches(nothing, 3, np.full(4, 0.5))) == 0


def test_a_map_of_any_size_is_divided_evenly():
    label = torch.tensor([[0, 0, 1, 1, 255], [0, 1, 1, 1, 255], [0, 0, 0, 0, 0]])
    counts = count_labels(label, (1, 2), 2, "left_out")
    assert counts.tolist() == [[6, 3], [2, 2]]
    assert count_labels(label, (1, 2), 2, "class0").tolist() == [[6, 3], [4, 2]]
    assert patch_grid((512, 500), 16) == (32, 32)


def test_patches_are_means_of_unit_vectors():
    embedding = torch.tensor([[[[3.0, 0.0]], [[4.0, 7.0]]]])
    assert to_patches(embedding).tolist() == pytest.approx(torch.tensor([[[[0.6, 0]], [[0.8, 1]]]]))
    x, y = to_patches(embedding, (1, 1)).flatten().tolist()
    assert (x / y, math.hypot(x, y)) == pytest.approx((0.6 / 1.8, 1))
    with pytest.raises(UserError, match="1 x 2 cells cannot be shared evenly among 2 x 2"):
        to_patches(embedding, (2, 2))
    assert not to_patches(torch.zeros(1, 3, 2, 2)).any()


def test_matching_and_none_differ_where_predictions_are_swapped():
    table = CountTable(3, 3)
    # Rows are predicted classes. Class 0 is mostly predicted as 1, and class 1 as 0.
    table.counts[:] = torch.tensor([[10, 30, 0], [40, 10, 0], [0, 0, 10]])
    none, matched = match("none", table), match("hungarian_iou", table)
    assert (none.tolist(), matched.tolist()) == ([0, 1, 2], [1, 0, 2])
    assert table.miou(none) == pytest.approx((10 / 80 + 10 / 80 + 1) / 3)
    assert table.miou(matched) == pytest.approx((30 / 50 + 40 / 60 + 1) / 3)


def test_a_memory_without_labels_or_of_another_width_is_named():
    sampler = MemorySampler(4, 1, CLASSES, ignored="left_out")
    sampler.add(torch.ones(DIM, 2, 2), torch.full((4, 4), 255), 0)
    assert sampler.describe()["images_with_fewer"] == 1
    with pytest.raises(UserError, match="no labelled patch"):
        sampler.memory()
    sampler.add(torch.ones(DIM, 2, 2), torch.zeros(4, 4, dtype=torch.uint8), 0)
    with pytest.raises(UserError, match="vectors of 2 dimensions .* memory of 5"):
        sampler.memory(neighbours=1).classify(torch.ones(1, 2))


def gathered(rank, ranks):
    embeddings, labels = images()
    sampler = MemorySampler(40, IMAGES, CLASSES, seed=2)
    for index in range(rank, IMAGES, ranks):
        patches = to_patches(torch.from_numpy(embeddings[index : index + 1]))[0]
        sampler.add(patches, torch.from_numpy(labels[index]), index)
    sampler.gather()
    known, memory = sampler.describe(), sampler.memory()
    numbers = torch.tensor([float(value) for value in known.values()])
    return {"vectors": memory.vectors, "labels": memory.labels, "known": numbers}


def test_each_rank_gets_the_memory_of_one_process():
    one = gathered(0, 1)
    for other in run_processes(gathered, 2):
        for name, value in one.items():
            np.testing.assert_array_equal(other[name], value)
