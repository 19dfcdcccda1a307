"""Region pooling against a float64 loop written from the formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ragged_regions
from tests.helpers import oracles
from vice.experiments.benchmark.pooling import region_sum, upsample
from vice.regions import index_regions, pool_regions, representative_regions

pytestmark = pytest.mark.usefixtures("path")


def compare(pooled, expected, tolerance):
    assert [tuple(row) for row in pooled.index.tolist()] == list(expected)
    for row, (vector, count) in enumerate(expected.values()):
        error = np.abs(pooled.vectors[row].double().numpy() - vector).max()
        # A mean near zero of values near one carries the rounding of those values.
        assert error <= tolerance * max(np.abs(vector).max(), 0.1)
        assert int(pooled.counts[row]) == count


@given(seed=st.integers(0, 10_000), mode=st.sampled_from(["pixel", "region"]))
@settings(max_examples=25, deadline=None)
def test_pooling_equals_the_loop_for_any_layout(seed, mode):
    rng = np.random.default_rng(seed)
    maps, dim = int(rng.integers(1, 4)), int(rng.integers(1, 9))
    small = rng.integers(1, 5, 2)
    height, width = (int(side) for side in small * 4 + rng.integers(0, 3, 2))
    embeddings = rng.normal(size=(maps, dim, *small))
    regions = ragged_regions(rng, maps, height, width)
    expected = oracles.pool(embeddings, regions, mode)
    upsampled = torch.nn.functional.interpolate(
        torch.from_numpy(embeddings), (height, width), mode="bilinear"
    )
    shortest = float(upsampled.norm(dim=1).min())
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        given_embeddings = torch.from_numpy(embeddings).to(dtype)
        pooled = pool_regions(given_embeddings, torch.from_numpy(regions), normalize=mode)
        assert pooled.vectors.dtype == dtype
        # Condition number: of cells that cancel to little, rounding is as much larger.
        compare(pooled, expected, tolerance * max(1.0, 0.01 / shortest))


@pytest.mark.parametrize("mode", ["pixel", "region"])
@pytest.mark.parametrize("seed", range(3))
def test_low_precision_is_accumulated_in_float32(seed, mode):
    rng = np.random.default_rng(seed)
    embeddings = torch.from_numpy(rng.normal(size=(3, 8, 4, 4)))
    regions = torch.from_numpy(ragged_regions(rng, 3, 16, 16))
    regions[1] = -1
    for dtype in (torch.float16, torch.bfloat16):
        given_embeddings = embeddings.to(dtype)
        pooled = pool_regions(given_embeddings, regions, normalize=mode)
        assert pooled.vectors.dtype == torch.float32
        expected = oracles.pool(embeddings.numpy(), regions.numpy(), mode)
        assert distance(pooled, expected) <= 2e-2
        rounded = oracles.pool(given_embeddings.double().numpy(), regions.numpy(), mode)
        assert distance(pooled, rounded) <= 1e-5


def distance(pooled, expected):
    assert [tuple(row) for row in pooled.index.tolist()] == list(expected)
    exact = np.stack([vector for vector, _ in expected.values()])
    return np.linalg.norm(pooled.vectors.double().numpy() - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("mode", ["pixel", "region"])
@pytest.mark.parametrize("seed", range(4))
def test_gradient_is_that_of_the_dense_formula(seed, mode):
    """PyTorch's own gradient of upsampling, normalising and averaging in float64."""
    rng = np.random.default_rng(seed)
    exact = torch.from_numpy(rng.normal(size=(3, 12, 4, 5))).requires_grad_()
    regions = torch.from_numpy(ragged_regions(rng, 3, 17, 21))
    numbered = index_regions(regions)
    dense = upsample(exact, (17, 21))
    dense = torch.nn.functional.normalize(dense, dim=1) if mode == "pixel" else dense
    means = region_sum(dense, numbered.row, len(numbered.counts)) / numbered.counts[:, None]
    target = torch.from_numpy(rng.normal(size=means.shape))
    (wanted,) = torch.autograd.grad((means * target).sum(), exact)
    kinds = ((torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 2e-2))
    for dtype, tolerance in kinds:
        leaf = exact.detach().to(dtype).requires_grad_()
        pooled = pool_regions(leaf, regions, normalize=mode)
        (found,) = torch.autograd.grad((pooled.vectors * target).sum(), leaf)
        assert found.dtype == dtype
        assert (found.double() - wanted).norm() <= tolerance * wanted.norm()


def test_layout_in_memory_does_not_matter(rng):
    embeddings = torch.from_numpy(rng.normal(size=(2, 6, 5, 4)))
    regions = torch.from_numpy(ragged_regions(rng, 2, 20, 16))
    expected = pool_regions(embeddings, regions).vectors
    for layout in (
        embeddings.contiguous(memory_format=torch.channels_last),
        embeddings.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        assert torch.allclose(pool_regions(layout, regions).vectors, expected, atol=1e-12)


@pytest.mark.parametrize("mode", ["pixel", "region"])
def test_gradients(rng, mode):
    embeddings = torch.from_numpy(rng.normal(size=(2, 3, 2, 2))).requires_grad_()
    regions = torch.from_numpy(ragged_regions(rng, 2, 8, 7))
    assert torch.autograd.gradcheck(
        lambda value: pool_regions(value, regions, normalize=mode).vectors, (embeddings,)
    )


def test_no_region_at_all():
    embeddings = torch.randn(2, 4, 3, 3, requires_grad=True)
    pooled = pool_regions(embeddings, torch.full((2, 9, 9), -1))
    assert pooled.vectors.shape == (0, 4)
    assert pooled.counts.shape == (0,)
    assert pooled.index.shape == (0, 2)
    pooled.vectors.sum().backward()
    assert float(embeddings.grad.abs().sum()) == 0


def test_id_zero_one_pixel_and_the_largest_id_count_like_any_other():
    embeddings = torch.randn(1, 4, 2, 2)
    regions = torch.zeros(1, 8, 8, dtype=torch.int32)
    regions[0, 3, 3] = 65535
    pooled = pool_regions(embeddings, regions)
    assert pooled.index.tolist() == [[0, 0], [0, 65535]]
    assert pooled.counts.tolist() == [63, 1]
    dense = torch.nn.functional.interpolate(embeddings, size=(8, 8), mode="bilinear")
    one = torch.nn.functional.normalize(dense[0, :, 3, 3], dim=0)
    assert torch.allclose(pooled.vectors[1], one, atol=1e-6)


def test_align_corners_is_passed_on(rng):
    embeddings = torch.from_numpy(rng.normal(size=(1, 3, 3, 3)))
    rows = upsample(embeddings, (7, 7), align_corners=True)
    assert torch.allclose(rows[0], embeddings[0, :, 0, 0])
    assert torch.allclose(rows[-1], embeddings[0, :, -1, -1])


def test_bound_on_ids():
    regions = torch.tensor([[[0, 2], [-1, 2]]])
    assert index_regions(regions, 3).index.tolist() == [[0, 0], [0, 2]]
    with pytest.raises(ValueError, match="region id 2 is not below num_regions=2"):
        index_regions(regions, 2)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="normalize must be one of"):
        pool_regions(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1), normalize="area")
    with pytest.raises(ValueError, match="2 embeddings but 1 region maps"):
        pool_regions(torch.zeros(2, 1, 1, 1), torch.zeros(1, 1, 1))
    with pytest.raises(ValueError, match=r"regions must be \(B, h, w\)"):
        index_regions(torch.zeros(3, 3))


EMPTY = [((0, 4, 3, 3), (0, 9, 9)), ((2, 0, 3, 3), (2, 9, 9)), ((2, 4, 0, 3), (2, 9, 9)),
         ((2, 4, 3), (2, 9, 9)), ((2, 4, 3, 3), (2, 0, 9)), ((2, 4, 3, 3), (2, 9, 0))]  # fmt: skip


@pytest.mark.parametrize(("embeddings", "regions"), EMPTY)
def test_nothing_to_pool_is_said(embeddings, regions):
    maps = torch.zeros(regions, dtype=torch.long)
    for pool in (pool_regions, lambda *both: representative_regions(*both, torch.eye(4))):
        with pytest.raises(ValueError, match=r"must be \(B, D, h', w'\)"):
            pool(torch.randn(embeddings), maps)


KINDS = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32)


@pytest.mark.parametrize("kind", [*KINDS, torch.float32, torch.uint64])
def test_ids_are_integers_of_any_width(kind, rng):
    ids = torch.from_numpy(rng.integers(0, 100, (2, 9, 9)))
    embeddings = torch.randn(2, 4, 3, 3)
    if kind not in KINDS:
        with pytest.raises(ValueError, match="regions must be integers"):
            pool_regions(embeddings, ids.to(kind))
        return
    expected = pool_regions(embeddings, ids)
    for got, wanted in zip(pool_regions(embeddings, ids.to(kind)), expected, strict=True):
        assert torch.equal(got, wanted)
