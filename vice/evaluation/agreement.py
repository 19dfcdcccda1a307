"""Clustering agreement (ARI, NMI): how far two labelings agree, however they are numbered."""

from __future__ import annotations

import numpy as np

from vice.assignment import entropy


def contingency(first: np.ndarray, second: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Counts how often each label of one labelling meets each label of the other.

    Args:
        first: Integer labels of any shape, in [0, shape[0]).
        second: Labels of the same things, in [0, shape[1]).
        shape: Numbers of labels.

    Returns:
        int64 array of that shape; tables of several images can be added up.
    """
    joint = np.asarray(first, np.int64).ravel() * shape[1] + np.asarray(second, np.int64).ravel()
    return np.bincount(joint, minlength=shape[0] * shape[1]).reshape(shape)


def normalized_mutual_information(table: np.ndarray) -> float:
    """Mutual information over the mean of the two entropies, in [0, 1].

    0 where either labelling has a single label: such a labelling says nothing, so there is nothing
    to agree in. (scikit-learn gives 1 where both have one; elsewhere the two are the same.)

    Args:
        table: What `contingency` returns.
    """
    total = table.sum()
    if total == 0:
        return 0.0
    joint = table / total
    rows, columns = joint.sum(1), joint.sum(0)
    present = joint > 0
    expected = np.outer(rows, columns)[present]
    information = float((joint[present] * np.log(joint[present] / expected)).sum())
    entropies = entropy(rows) + entropy(columns)
    if entropies <= 0:
        return 0.0
    return min(max(2 * information / entropies, 0.0), 1.0)


def adjusted_rand_index(table: np.ndarray) -> float:
    """Share of pairs on which the labellings agree, corrected for chance; 1 is perfect.

    0 where both have a single label, as in `normalized_mutual_information`.

    Args:
        table: What `contingency` returns.

    Source: Hubert and Arabie (1985), equation 5.
    """
    together = _pairs(table).sum()
    rows, columns = _pairs(table.sum(1)).sum(), _pairs(table.sum(0)).sum()
    everything = _pairs(np.asarray(table.sum()))
    # Trivial partition: with one label, all pairs are together by necessity.
    if min(rows, columns) == everything:
        return 0.0
    expected = rows * columns / everything
    most = (rows + columns) / 2
    # Singletons: no pair is together in either, so both agree.
    return 1.0 if most == expected else float((together - expected) / (most - expected))


def _pairs(counts: np.ndarray) -> np.ndarray:
    counts = counts.astype(np.float64)
    return counts * (counts - 1) / 2
