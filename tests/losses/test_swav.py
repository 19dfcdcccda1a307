"""The dense SwAV loss against a float64 loop, and over several processes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ragged_regions
from tests.helpers import oracles
from tests.helpers.processes import run_processes
from vice.errors import UserError
from vice.losses import DenseSwAVLoss, MutualRegions
from vice.regions import representative_regions


def random_batch(rng, *, views, images, dim=5, concepts=4, side=12):
    embeddings = rng.normal(size=(views * images, dim, 3, 3))
    prototypes = np.stack([oracles.unit(row) for row in rng.normal(size=(concepts, dim))])
    # The same block structure in all views of an image makes most ids mutual, holes do not.
    base = ragged_regions(rng, images, side, side)
    regions = np.concatenate([np.roll(base, view, axis=2) for view in range(views)])
    regions[rng.integers(len(regions)), :, : side // 2] = -1
    return embeddings, prototypes, regions


@given(
    seed=st.integers(0, 10_000),
    views=st.integers(2, 4),
    images=st.integers(1, 3),
    reduction=st.sampled_from(["image", "region"]),
    mode=st.sampled_from(["pixel", "region"]),
)
@settings(max_examples=25, deadline=None)
def test_equals_the_loop(seed, views, images, reduction, mode):
    rng = np.random.default_rng(seed)
    embeddings, prototypes, regions = random_batch(rng, views=views, images=images)
    queue = np.stack([oracles.unit(row) for row in rng.normal(size=(6, 5))])
    expected = oracles.swapped_loss(
        embeddings, prototypes, regions, views, reduction=reduction, mode=mode, queue=queue
    )
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        loss = DenseSwAVLoss(
            views, 4, 5, reduction=reduction, region_vector=mode, queue_length=6, queue_start=0
        ).to(dtype)
        loss.queue.push(torch.from_numpy(queue))
        value = loss(
            torch.from_numpy(embeddings).to(dtype),
            torch.from_numpy(prototypes).to(dtype),
            torch.from_numpy(regions),
        )
        assert float(value) == pytest.approx(expected, rel=tolerance, abs=1e-12)


def test_queue_is_used_from_its_start_only(rng):
    embeddings, prototypes, regions = random_batch(rng, views=2, images=2)
    tensors = tuple(map(torch.from_numpy, (embeddings, prototypes, regions)))
    loss = DenseSwAVLoss(2, 4, 5, queue_length=50, queue_start=2).double()
    plain = oracles.swapped_loss(embeddings, prototypes, regions, 2)
    assert float(loss(*tensors)) == pytest.approx(plain, rel=1e-9)
    assert float(loss(*tensors)) == pytest.approx(plain, rel=1e-9)
    queue = loss.queue.stored().clone().numpy()
    queued = oracles.swapped_loss(embeddings, prototypes, regions, 2, queue=queue)
    assert float(loss(*tensors)) == pytest.approx(queued, rel=1e-9)


@pytest.mark.parametrize("region_vector", ["pixel", "region", "representative"])
def test_gradients(rng, region_vector):
    embeddings, prototypes, regions = random_batch(rng, views=2, images=2, dim=3)
    # Assignments take no gradient: they are held fixed by scoring with detached prototypes.
    weights = torch.from_numpy(prototypes)
    regions = torch.from_numpy(regions)

    def value(dense):
        # A representative that is a constant has no such differences.
        fixed = DenseSwAVLoss(
            2, 4, 3, region_vector=region_vector, coherence_gradient="through"
        ).double()
        fixed._assign = lambda *_: table  # type: ignore[method-assign]
        return fixed(dense, weights, regions)

    dense = torch.from_numpy(embeddings).requires_grad_()
    probe = DenseSwAVLoss(2, 4, 3, region_vector=region_vector).double()
    held = {}
    assign = probe._assign
    probe._assign = lambda *args: held.setdefault("q", assign(*args))  # type: ignore[method-assign]
    probe(dense, weights, regions)
    table = held["q"]
    assert len(table) > 2
    assert torch.autograd.gradcheck(value, (dense,))


def test_representative_adds_half_the_coherence(rng):
    embeddings, prototypes, regions = random_batch(rng, views=2, images=2)
    tensors = tuple(map(torch.from_numpy, (embeddings, prototypes, regions)))
    total = float(DenseSwAVLoss(2, 4, 5, region_vector="representative").double()(*tensors))
    found = oracles.representative(embeddings, regions, prototypes)
    mutual = {(n, i) for n, i in found if n < 2 and (n + 2, i) in found}
    coherence = np.mean([found[v * 2 + n, i][1] for n, i in mutual for v in range(2)])
    rows = sorted(mutual)
    q = oracles.sinkhorn(np.array([prototypes @ found[key][0] for key in rows]), 0.05, 3)
    per_image: dict[int, list[float]] = {}
    for row, (n, i) in enumerate(rows):
        log_p = oracles.log_softmax(prototypes @ found[n + 2, i][0] / 0.1)
        per_image.setdefault(n, []).append(-float(q[row] @ log_p))
    swapped = np.mean([np.mean(losses) for losses in per_image.values()])
    assert total == pytest.approx((swapped + coherence) / 2, rel=1e-9)


def test_representatives_are_constants_of_their_coherence_by_default(rng):
    """The gradient differs by half of the coherence's, in the mean over regions and views."""
    embeddings, prototypes, regions = random_batch(rng, views=2, images=2)
    maps, weights = torch.from_numpy(regions), torch.from_numpy(prototypes)

    def gradient_of(function):
        leaf = torch.from_numpy(embeddings).requires_grad_()
        return torch.autograd.grad(function(leaf), leaf)[0]

    def loss(**options):
        mode = DenseSwAVLoss(2, 4, 5, region_vector="representative", **options).double()
        return gradient_of(lambda leaf: mode(leaf, weights, maps))

    batch = MutualRegions.of(maps, 2)

    def coherence(gradient):
        return lambda leaf: batch.mutual(
            representative_regions(leaf, batch.numbered, weights, coherence_gradient=gradient)[1]
        ).mean()

    expected = (gradient_of(coherence("through")) - gradient_of(coherence("constant"))) / 2
    assert float(expected.norm()) > 0.01
    difference = loss(coherence_gradient="through") - loss(coherence_gradient="constant")
    torch.testing.assert_close(difference, expected)
    assert torch.equal(loss(), loss(coherence_gradient="constant"))


def test_batch_without_mutual_regions():
    loss = DenseSwAVLoss(2, 4, 5, queue_length=10)
    embeddings = torch.randn(4, 5, 3, 3, requires_grad=True)
    prototypes = torch.randn(4, 5, requires_grad=True)
    value = loss(embeddings, prototypes, torch.full((4, 12, 12), -1))
    value.backward()
    assert float(value.detach()) == 0
    assert float(embeddings.grad.abs().sum()) == 0
    assert float(prototypes.grad.abs().sum()) == 0
    assert loss.health["perplexity"] == 0
    assert loss.health["discarded_share"] == 1


def test_image_without_regions_is_not_counted(rng):
    embeddings, prototypes, regions = random_batch(rng, views=2, images=1, concepts=2)
    alone = DenseSwAVLoss(2, 2, 5).double()(
        *map(torch.from_numpy, (embeddings, prototypes, regions))
    )
    padded = np.concatenate([embeddings, embeddings])[[0, 2, 1, 3]]
    empty = np.full_like(regions[0], -1)
    both = np.stack([regions[0], empty, regions[1], empty])
    together = DenseSwAVLoss(2, 2, 5).double()(*map(torch.from_numpy, (padded, prototypes, both)))
    assert float(together) == pytest.approx(float(alone), rel=1e-12)


def test_health_of_uniform_and_of_collapsed_assignments():
    loss = DenseSwAVLoss(2, 4, 4)
    regions = torch.arange(64).reshape(1, 8, 8).expand(4, 8, 8)
    loss(torch.randn(4, 4, 8, 8), torch.eye(4), regions)
    health = loss.health
    assert health["loss_over_lnk"] == pytest.approx(health["loss"] / math.log(4))
    assert 1 < health["perplexity"] <= 4
    assert health["regions_per_view"] == 64
    assert health["discarded_share"] == 0
    usage = np.zeros(4)
    usage[:2] = 1
    batch = MutualRegions.of(regions, 2)
    loss._record(torch.tensor(0.0), torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]), batch)
    assert loss.health["perplexity"] == pytest.approx(2)


def test_more_prototypes_than_vectors_is_refused_with_a_remedy():
    loss = DenseSwAVLoss(2, 100, 4, queue_length=30)
    regions = torch.zeros(2, 8, 8, dtype=torch.long)
    with pytest.raises(UserError, match="100 prototypes but only 1 region vectors"):
        loss(torch.randn(2, 4, 2, 2), torch.randn(100, 4), regions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_views": 1}, "num_views must be at least 2"),
        ({"reduction": "sum"}, "reduction must be one of"),
        ({"region_vector": "median"}, "region_vector must be one of"),
        ({"coherence_gradient": "half"}, "coherence_gradient must be one of"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DenseSwAVLoss(**{"num_views": 2, "num_prototypes": 4, "dim": 3, **arguments})


def test_batch_must_be_a_multiple_of_the_views():
    loss = DenseSwAVLoss(2, 4, 3)
    with pytest.raises(ValueError, match="3 maps are not a multiple of num_views=2"):
        loss(torch.zeros(3, 3, 1, 1), torch.zeros(4, 3), torch.zeros(3, 2, 2))


def test_half_precision_embeddings_are_scored_in_float32(rng):
    embeddings, prototypes, regions = random_batch(rng, views=2, images=2)
    loss = DenseSwAVLoss(2, 4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(
            torch.from_numpy(embeddings).bfloat16(),
            torch.from_numpy(prototypes).float(),
            torch.from_numpy(regions),
        )
    assert value.dtype == torch.float32
    expected = oracles.swapped_loss(embeddings, prototypes, regions, 2)
    assert float(value) == pytest.approx(expected, rel=5e-2)


def _share(rank: int, ranks: int, reduction: str, dtype: torch.dtype) -> dict:
    """One rank's images of a fixed global batch of four: loss and gradients."""
    rng = np.random.default_rng(5)
    views, images = 3, 4
    embeddings, prototypes, regions = random_batch(rng, views=views, images=images)
    regions[[2, 6, 10]] = -1
    regions[[3, 7, 11]] = -1
    mine = [n for n in range(images) if n * ranks // images == rank]
    picked = [view * images + n for view in range(views) for n in mine]
    dense = torch.from_numpy(embeddings[picked]).to(dtype).requires_grad_()
    weights = torch.from_numpy(prototypes).to(dtype).requires_grad_()
    loss = DenseSwAVLoss(views, 4, 5, reduction=reduction, queue_length=8, queue_start=1).to(dtype)
    values = []
    for _ in range(2):
        dense.grad = weights.grad = None
        value = loss(dense, weights, torch.from_numpy(regions[picked]))
        value.backward()
        values.append(float(value))
    return {
        "loss": values,
        "health": loss.health,
        "picked": picked,
        "dense": dense.grad,
        "weights": weights.grad,
    }


@pytest.mark.parametrize("reduction", ["image", "region"])
def test_two_and_four_processes_equal_one(reduction):
    (one,) = run_processes(_share, 1, reduction, torch.float64)
    for ranks in (2, 4):
        shares = run_processes(_share, ranks, reduction, torch.float64)
        # With an empty queue first and a full one later; ranks 2 and 3 of 4 hold no region.
        mean = np.mean([share["loss"] for share in shares], axis=0)
        assert mean[0] == pytest.approx(one["loss"][0], rel=1e-9)
        assert mean[1] == pytest.approx(one["loss"][1], rel=1e-6)
        weights = torch.from_numpy(np.mean([share["weights"] for share in shares], axis=0))
        assert torch.allclose(weights, one["weights"], rtol=1e-6, atol=1e-12)
        for share in shares:
            # Gradients of activations are local: averaging over ranks scales them by 1 / ranks.
            expected = one["dense"][share["picked"]] * ranks
            assert torch.allclose(torch.from_numpy(share["dense"]), expected, rtol=1e-6, atol=1e-12)
            assert share["health"]["loss"] == pytest.approx(one["health"]["loss"], rel=1e-6)
            assert share["health"]["perplexity"] == pytest.approx(one["health"]["perplexity"])


def test_two_and_four_processes_equal_one_in_single_precision():
    (one,) = run_processes(_share, 1, "image", torch.float32)
    for ranks in (2, 4):
        shares = run_processes(_share, ranks, "image", torch.float32)
        mean = np.mean([share["loss"] for share in shares], axis=0)
        assert mean == pytest.approx(one["loss"], rel=1e-6)
        weights = torch.from_numpy(np.mean([share["weights"] for share in shares], axis=0))
        assert _distance(weights, one["weights"]) < 1e-6
        for share in shares:
            expected = one["dense"][share["picked"]] * ranks
            found = torch.from_numpy(share["dense"])
            assert float((found - expected).norm()) < 1e-6 * float(one["dense"].norm()) * ranks


def _distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
