"""Representatives against a float64 loop written from the formula, and their gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ragged_regions
from tests.helpers import oracles
from vice.experiments.benchmark.pooling import upsample
from vice.regions import COHERENCE_GRADIENTS, representative_regions

pytestmark = pytest.mark.usefixtures("path")
BOTH = pytest.mark.parametrize("gradient", COHERENCE_GRADIENTS)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_representatives_equal_the_loop(seed):
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(2, 4, 3, 3))
    prototypes = np.stack([oracles.unit(row) for row in rng.normal(size=(5, 4))])
    regions = ragged_regions(rng, 2, 12, 12)
    pooled, coherence = representative_regions(
        torch.from_numpy(embeddings), torch.from_numpy(regions), torch.from_numpy(prototypes)
    )
    expected = oracles.representative(embeddings, regions, prototypes)
    assert [tuple(row) for row in pooled.index.tolist()] == list(expected)
    for row, (vector, distance) in enumerate(expected.values()):
        assert np.allclose(pooled.vectors[row].numpy(), vector, atol=1e-10)
        assert np.isclose(float(coherence[row]), distance, atol=1e-10)


@BOTH
def test_gradient_is_the_loops_finite_difference(rng, gradient):
    """Of vectors and coherence; where the representative is a constant, distances are to it."""
    embeddings = rng.normal(size=(2, 3, 2, 2))
    prototypes = np.eye(3)
    regions = ragged_regions(rng, 2, 6, 5)
    start = oracles.representative(embeddings, regions, prototypes)
    targets = {key: vector for key, (vector, _) in start.items()}
    weights = rng.normal(size=(len(start), 4))

    def value(changed):
        fixed = targets if gradient == "constant" else None
        found = oracles.representative(changed, regions, prototypes, fixed).values()
        parts = [np.append(vector, distance) for vector, distance in found]
        return float((np.stack(parts) * weights).sum())

    wanted, step = np.zeros(embeddings.size), 1e-6
    for place in range(embeddings.size):
        ends = []
        for sign in (1, -1):
            changed = embeddings.copy()
            changed.flat[place] += sign * step
            ends.append(value(changed))
        wanted[place] = (ends[0] - ends[1]) / (2 * step)
    leaf = torch.from_numpy(embeddings).requires_grad_()
    pooled, coherence = representative_regions(
        leaf,
        torch.from_numpy(regions),
        torch.from_numpy(prototypes),
        coherence_gradient=gradient,
    )
    found = torch.cat([pooled.vectors, coherence.unsqueeze(1)], 1)
    (found * torch.from_numpy(weights)).sum().backward()
    np.testing.assert_allclose(leaf.grad.flatten().numpy(), wanted, rtol=1e-5, atol=1e-7)


def test_only_the_gradient_of_coherence_depends_on_what_the_representative_is(rng):
    embeddings = torch.from_numpy(rng.normal(size=(2, 5, 3, 4)))
    regions = torch.from_numpy(ragged_regions(rng, 2, 12, 14))
    prototypes = F.normalize(torch.from_numpy(rng.normal(size=(7, 5))), dim=1)
    found = {}
    for gradient in COHERENCE_GRADIENTS:
        leaf = embeddings.clone().requires_grad_()
        pooled, coherence = representative_regions(
            leaf, regions, prototypes, coherence_gradient=gradient
        )
        weights = torch.linspace(-1, 1, pooled.vectors.numel(), dtype=torch.float64)
        (of_vectors,) = torch.autograd.grad(
            (pooled.vectors.flatten() * weights).sum(), leaf, retain_graph=True
        )
        (of_coherence,) = torch.autograd.grad(coherence.sum(), leaf)
        found[gradient] = pooled.vectors, coherence, of_vectors, of_coherence
    *same, one = found["constant"]
    *others, other = found["through"]
    for value, expected in zip(same, others, strict=True):
        assert torch.equal(value, expected)
    assert (one - other).norm() > 0.05 * other.norm()


def test_another_gradient_is_refused():
    with pytest.raises(ValueError, match="coherence_gradient must be one of .*not 'half'"):
        representative_regions(
            torch.ones(1, 2, 1, 1), torch.zeros(1, 2, 2), torch.eye(2), coherence_gradient="half"
        )


@BOTH
def test_gradient_of_coherence_is_finite_at_the_representative(rng, gradient):
    embeddings = torch.from_numpy(rng.normal(size=(1, 3, 2, 2))).requires_grad_()
    prototypes = torch.eye(3, dtype=torch.float64)
    _, coherence = representative_regions(
        embeddings, torch.zeros(1, 6, 6, dtype=torch.long), prototypes, coherence_gradient=gradient
    )
    coherence.sum().backward()
    assert bool(torch.isfinite(embeddings.grad).all())


def dense_representatives(embeddings, regions, prototypes, gradient):
    """By PyTorch's own upsampling and gradient, one region at a time, in the order of the index."""
    vectors, coherence = [], []
    for embedding, ids in zip(embeddings, regions, strict=True):
        rows = upsample(embedding[None], tuple(ids.shape))
        for number in ids[ids >= 0].unique():
            pixels = F.normalize(rows[ids.flatten() == number], dim=1)
            best = int((pixels.detach() @ prototypes.t()).amax(1).argmax())
            target = pixels[best] if gradient == "through" else pixels[best].detach()
            apart = pixels - target
            # Copies of it, as beyond the last cell: rounding is no direction.
            distance = apart[apart.detach().norm(dim=1) > 1e-12].norm(dim=1)
            vectors.append(pixels[best])
            coherence.append(distance.sum() / len(pixels))
    return torch.stack(vectors), torch.stack(coherence)


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_that_of_the_dense_formula(seed, gradient):
    rng = np.random.default_rng(seed)
    exact = torch.from_numpy(rng.normal(size=(3, 12, 4, 5))).requires_grad_()
    regions = torch.from_numpy(ragged_regions(rng, 3, 17, 21))
    prototypes = F.normalize(torch.from_numpy(rng.normal(size=(30, 12))), dim=1)
    expected = dense_representatives(exact, regions, prototypes, gradient)
    targets = [torch.from_numpy(rng.normal(size=part.shape)) for part in expected]
    (wanted,) = torch.autograd.grad(weigh(expected, targets), exact)
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-5)):
        leaf = exact.detach().to(dtype).requires_grad_()
        pooled, coherence = representative_regions(
            leaf, regions, prototypes, coherence_gradient=gradient
        )
        found = (pooled.vectors, coherence)
        (slope,) = torch.autograd.grad(weigh(found, targets), leaf)
        for one, other in ((found[0], expected[0]), (coherence, expected[1]), (slope, wanted)):
            assert (one.double() - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_computed_in_float32(rng, dtype):
    """Of the rounded embedding, to float32's digits: which pixel is best can hang on rounding."""
    embeddings = torch.from_numpy(rng.normal(size=(2, 8, 4, 4))).to(dtype)
    regions = torch.from_numpy(ragged_regions(rng, 2, 16, 15))
    prototypes = F.normalize(torch.from_numpy(rng.normal(size=(9, 8))), dim=1)
    layout = embeddings.transpose(2, 3).contiguous().transpose(2, 3)
    pooled, coherence = representative_regions(layout, regions, prototypes)
    rounded = embeddings.double().numpy()
    expected = oracles.representative(rounded, regions.numpy(), prototypes.numpy())
    assert pooled.vectors.dtype == torch.float32
    assert [tuple(row) for row in pooled.index.tolist()] == list(expected)
    for row, (vector, distance) in enumerate(expected.values()):
        assert np.allclose(pooled.vectors[row].numpy(), vector, atol=1e-5)
        assert np.isclose(float(coherence[row]), distance, atol=1e-5)


def weigh(found, targets):
    return sum((part * target).sum() for part, target in zip(found, targets, strict=True))


def test_gradcheck(rng):
    embeddings = torch.from_numpy(rng.normal(size=(2, 3, 2, 2))).requires_grad_()
    regions = torch.from_numpy(ragged_regions(rng, 2, 8, 7))
    # Away from ties: a step of the check must not change which pixel is the best.
    prototypes = torch.eye(3, dtype=torch.float64)

    def function(value):
        # Where it is a constant, differences with it held fixed are taken above.
        pooled, coherence = representative_regions(
            value, regions, prototypes, coherence_gradient="through"
        )
        return pooled.vectors, coherence

    assert torch.autograd.gradcheck(function, (embeddings,))


def test_the_first_pixel_in_scan_order_wins_between_equal_scores():
    """Two halves, mirrored: each score is there twice, and the prototype cannot tell them apart."""
    embeddings = torch.tensor([[1.0, 1.0, 1.0, 1.0], [3.0, 2.0, -2.0, -3.0]]).view(1, 2, 1, 4)
    regions = torch.zeros(1, 2, 4, dtype=torch.long)
    for prototypes in (torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, -1.0], [0.0, 1.0]])):
        leaf = embeddings.clone().requires_grad_()
        pooled, _ = representative_regions(leaf, regions, prototypes)
        first = 1 if len(prototypes) == 1 else 0
        expected = F.normalize(embeddings[0, :, 0, first], dim=0)
        torch.testing.assert_close(pooled.vectors[0], expected)
        pooled.vectors[0, 0].backward()
        assert leaf.grad[0, :, 0].abs().sum(0).nonzero().flatten().tolist() == [first]


def test_the_same_everywhere_has_no_distance_and_no_gradient():
    embeddings = torch.full((1, 5, 3, 3), 0.3, requires_grad=True)
    regions = torch.zeros(1, 12, 12, dtype=torch.long)
    _, coherence = representative_regions(embeddings, regions, torch.eye(5))
    assert float(coherence.detach()) == 0
    coherence.sum().backward()
    assert float(embeddings.grad.abs().max()) == 0


def test_zeros_and_no_region_at_all():
    embeddings = torch.zeros(2, 4, 3, 3, requires_grad=True)
    regions = torch.full((2, 9, 9), -1)
    pooled, coherence = representative_regions(embeddings, regions, torch.eye(4))
    assert pooled.vectors.shape == (0, 4) and coherence.shape == (0,)
    regions[1, 2:, 3:] = 65535
    pooled, coherence = representative_regions(embeddings, regions, torch.eye(4))
    assert pooled.index.tolist() == [[1, 65535]]
    (pooled.vectors.sum() + coherence.sum()).backward()
    assert torch.isfinite(embeddings.grad).all() and float(coherence.detach()) == 0


@pytest.mark.parametrize("prototypes", [(0, 4), (3, 5), (4,)])
def test_prototypes_have_the_embeddings_width(prototypes):
    with pytest.raises(ValueError, match=r"prototypes must be \(K, 4\)"):
        representative_regions(
            torch.randn(1, 4, 3, 3), torch.zeros(1, 9, 9, dtype=torch.long), torch.randn(prototypes)
        )
