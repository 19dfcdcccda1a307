"""Sinkhorn-Knopp against the linear-domain formula, and the queue against a Python list."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import oracles
from tests.helpers.processes import run_processes
from vice.assignment import perplexity, sinkhorn
from vice.losses.queue import RegionQueue


@given(
    seed=st.integers(0, 10_000),
    samples=st.integers(1, 40),
    concepts=st.integers(1, 12),
    iterations=st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_formula(seed, samples, concepts, iterations):
    scores = np.random.default_rng(seed).uniform(-1, 1, (samples, concepts))
    expected = oracles.sinkhorn(scores, 0.05, iterations)
    exact = sinkhorn(torch.from_numpy(scores), 0.05, iterations)
    assert np.allclose(exact.numpy(), expected, rtol=1e-9, atol=1e-12)
    single = sinkhorn(torch.from_numpy(scores).float(), 0.05, iterations)
    assert single.dtype == torch.float32
    assert np.allclose(single.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_rows_sum_to_one_and_prototypes_are_balanced():
    q = sinkhorn(torch.rand(500, 8), 0.05, 100)
    assert torch.allclose(q.sum(dim=1), torch.ones(500), atol=1e-5)
    assert torch.allclose(q.sum(dim=0), torch.full((8,), 500 / 8), rtol=1e-3)


def test_extreme_scores_stay_finite():
    scores = torch.tensor([[1e4, 0.0, -1e4], [1e4, 0.0, -1e4], [1e4, 1.0, -1e4]])
    q = sinkhorn(scores, 0.001, 3)
    assert bool(torch.isfinite(q).all())
    assert torch.allclose(q.sum(dim=1), torch.ones(3))


def test_no_sample_and_no_gradient():
    assert sinkhorn(torch.zeros(0, 4)).shape == (0, 4)
    assert not sinkhorn(torch.rand(3, 4, requires_grad=True)).requires_grad


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"scores must be \(N, K\)"):
        sinkhorn(torch.zeros(3))
    with pytest.raises(ValueError, match="must be positive"):
        sinkhorn(torch.zeros(3, 3), epsilon=0)


@given(
    length=st.integers(0, 7),
    batches=st.lists(st.integers(0, 12), max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_queue_is_first_in_first_out(length, batches):
    queue, expected = RegionQueue(length, 1), deque(maxlen=length)
    born: deque = deque(maxlen=length)
    value = 0
    for step, size in enumerate(batches, start=1):
        vectors = torch.arange(value, value + size, dtype=torch.float32).unsqueeze(1)
        value += size
        queue.push(vectors)
        expected.extend(vectors.flatten().tolist())
        born.extend([step] * size)
    assert len(queue) == len(expected)
    assert sorted(queue.stored().flatten().tolist()) == sorted(expected)
    age = np.mean([len(batches) - step for step in born]) if born else 0.0
    assert queue.age() == pytest.approx(age)


def test_queue_travels_in_the_state_dict():
    queue, copy = RegionQueue(5, 2), RegionQueue(5, 2)
    queue.push(torch.rand(3, 2))
    queue.push(torch.rand(4, 2))
    copy.load_state_dict(queue.state_dict())
    assert torch.equal(copy.stored(), queue.stored())
    more = torch.rand(2, 2)
    queue.push(more)
    copy.push(more)
    assert torch.equal(copy.stored(), queue.stored())
    assert copy.age() == queue.age()


def _resumed_queues(rank, ranks, collected):
    """Pushes vectors that name their rank, writes rank 0's state, and loads it everywhere."""
    queue = RegionQueue(4, 1)
    for step in range(3 + rank):
        queue.push(torch.tensor([[10.0 * rank + step]]))
    if collected:
        queue.collect()
    states = [queue.state_dict()]
    if ranks > 1:
        torch.distributed.broadcast_object_list(states, src=0)
    resumed = RegionQueue(4, 1)
    resumed.load_state_dict(states[0])
    # What has been collected must not outlive the next push.
    queue.push(torch.zeros(1, 1))
    return {"held": resumed.stored(), "age": resumed.age(), "stale": len(queue.get_extra_state())}


def test_each_rank_resumes_with_its_own_queue():
    found = run_processes(_resumed_queues, 2, True)
    assert [f["held"].ravel().tolist() for f in found] == [[0, 1, 2], [10, 11, 12, 13]]
    assert [f["age"] for f in found] == [1.0, 1.5] and not any(f["stale"] for f in found)


def test_a_queue_of_more_ranks_resumes_on_fewer_and_the_other_way_round():
    ranks = {
        "vectors": [torch.full((4, 1), float(r)) for r in range(2)],
        "born": [torch.ones(4, dtype=torch.long)] * 2,
        "pushed": [torch.tensor(3), torch.tensor(4)],
        "clock": [torch.tensor(3), torch.tensor(4)],
    }
    queue = RegionQueue(4, 1)
    queue.set_extra_state(ranks)
    assert queue.stored().ravel().tolist() == [0, 0, 0]
    found = run_processes(_load, 3, ranks)
    assert found == [3, 4, 0]


def _load(rank, ranks, state):
    queue = RegionQueue(4, 1)
    queue.push(torch.ones(2, 1))
    queue.set_extra_state(state)
    return len(queue)


def _ragged_share(rank, ranks):
    """This rank's part of one table of samples: all of it, or unequal parts, the last empty."""
    generator = torch.Generator().manual_seed(3)
    scores = 2 * torch.rand(500, 16, generator=generator) - 1
    bounds = {1: [0, 500], 2: [0, 470, 500], 4: [0, 1, 300, 500, 500]}[ranks]
    return sinkhorn(scores[bounds[rank] : bounds[rank + 1]])


def test_ragged_ranks_assign_like_one():
    (one,) = run_processes(_ragged_share, 1)
    for ranks in (2, 4):
        found = np.concatenate(run_processes(_ragged_share, ranks))
        error = np.linalg.norm(found - one.numpy()) / np.linalg.norm(one.numpy())
        assert found.dtype == np.float32 and error < 1e-6


def test_perplexity_counts_what_is_used():
    assert perplexity(np.array([0.25, 0.25, 0.0, 0.5])) == pytest.approx(2**1.5)
    assert perplexity(torch.full((7,), 1 / 7)) == pytest.approx(7)
    assert perplexity(torch.zeros(3)) == 0
