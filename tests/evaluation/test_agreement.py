from __future__ import annotations

import numpy as np
import pytest

from vice.evaluation.agreement import (
    adjusted_rand_index,
    contingency,
    normalized_mutual_information,
)

metrics = pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize("labels", [(2, 2), (5, 3), (40, 60)])
@pytest.mark.parametrize("related", [0.0, 0.5, 1.0])
def test_both_are_scikit_learns(rng, labels, related):
    first = rng.integers(0, labels[0], (7, 30))
    second = rng.integers(0, labels[1], first.shape)
    second = np.where(rng.random(first.shape) < related, first % labels[1], second)
    table = contingency(first, second, labels)
    flat = first.ravel(), second.ravel()
    assert normalized_mutual_information(table) == pytest.approx(
        metrics.normalized_mutual_info_score(*flat), abs=1e-12
    )
    assert adjusted_rand_index(table) == pytest.approx(
        metrics.adjusted_rand_score(*flat), abs=1e-12
    )


def test_table_counts_pairs_of_labels_and_adds_up():
    first, second = np.array([0, 0, 1, 2]), np.array([1, 1, 0, 1])
    table = contingency(first, second, (3, 2))
    assert table.tolist() == [[0, 2], [1, 0], [0, 1]]
    halves = [contingency(first[i : i + 2], second[i : i + 2], (3, 2)) for i in (0, 2)]
    assert np.array_equal(sum(halves), table)


def test_names_of_labels_do_not_matter(rng):
    labels = rng.integers(0, 6, 200)
    table = contingency(labels, rng.permutation(6)[labels], (6, 6))
    assert normalized_mutual_information(table) == pytest.approx(1)
    assert adjusted_rand_index(table) == pytest.approx(1)


@pytest.mark.parametrize("second", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 1]])
def test_one_label_for_everything_agrees_with_nothing(second):
    for pair in ([[0] * 4, second], [second, [0] * 4]):
        table = contingency(np.array(pair[0]), np.array(pair[1]), (4, 4))
        assert normalized_mutual_information(table) == 0
        assert adjusted_rand_index(table) == 0


def test_nothing_and_all_different():
    assert normalized_mutual_information(np.zeros((3, 3), int)) == 0
    assert adjusted_rand_index(np.zeros((3, 3), int)) == 0
    assert adjusted_rand_index(np.eye(5, dtype=int)) == 1
