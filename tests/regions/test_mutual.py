"""Mutual regions against sets of ids, and a loss that waits for no GPU."""

from __future__ import annotations

import importlib
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ragged_regions
from tests.helpers.waiting import no_waiting
from vice.losses import DenseSwAVLoss, MutualRegions
from vice.regions import index_regions
from vice.regions import pool as region_vectors


@given(seed=st.integers(0, 10_000), views=st.integers(2, 4), images=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_mutual_regions_are_the_intersection_of_ids(seed, views, images):
    maps = ragged_regions(np.random.default_rng(seed), views * images, 12, 9)
    batch = MutualRegions.of(torch.from_numpy(maps), views)
    expected = []
    for image in range(images):
        sets = [set(maps[view * images + image].ravel()) - {-1} for view in range(views)]
        expected += [(image, int(name)) for name in sorted(set.intersection(*sets))]
    assert batch.image.tolist() == [image for image, _ in expected]
    assert batch.counts.tolist() == [batch.image.tolist().count(i) for i in range(images)]
    for view in range(views):
        index = batch.numbered.index[batch.rows[view]].tolist()
        assert [tuple(pair) for pair in index] == [
            (view * images + i, name) for i, name in expected
        ]
    values = torch.randn(len(batch.numbered.counts), 3)
    assert torch.equal(batch.mutual(values), values[batch.rows])
    norms = batch.vectors(values).norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_maps_must_be_a_multiple_of_the_views():
    with pytest.raises(ValueError, match="3 maps are not a multiple of num_views=2"):
        MutualRegions.of(torch.zeros(3, 4, 4, dtype=torch.int32), 2)


@pytest.mark.parametrize("region_vector", ["pixel", "representative"])
def test_regions_found_before_give_the_same_loss(region_vector):
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(4, 5, 3, 3, generator=generator)
    prototypes = torch.nn.functional.normalize(torch.randn(3, 5, generator=generator), dim=1)
    maps = torch.randint(-1, 4, (4, 12, 12), generator=generator)
    found = []
    for given_regions in (maps, MutualRegions.of(maps, 2)):
        loss = DenseSwAVLoss(2, 3, 5, queue_length=9, queue_start=1, region_vector=region_vector)
        leaf = embeddings.clone().requires_grad_()
        for _ in range(2):
            value = loss(leaf, prototypes, given_regions)
        value.backward()
        found.append((value, leaf.grad, loss.health))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@contextmanager
def pretended_gpu(monkeypatch):
    """Tensors of the meta device go through the fused kernels' host side."""
    pytest.importorskip("triton")
    kernels = importlib.import_module("vice.regions.kernels")
    monkeypatch.setattr(region_vectors, "_kernels_for", lambda embeddings: kernels)
    # There is no autocast of the meta device.
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    with importlib.import_module(
        "vice.experiments.benchmark.kernels.launches"
    ).recorded() as launched:
        yield launched


def on_meta(batch: MutualRegions) -> MutualRegions:
    numbered = batch.numbered._replace(
        **{name: getattr(batch.numbered, name).to("meta") for name in ("row", "index", "counts")}
    )
    return MutualRegions(
        numbered, batch.rows.to("meta"), batch.image.to("meta"), batch.counts.to("meta")
    )


@pytest.mark.parametrize("reduction", ["image", "region"])
@pytest.mark.parametrize("region_vector", ["pixel", "region", "representative"])
def test_nothing_waits_for_the_device_once_regions_are_found(monkeypatch, region_vector, reduction):
    maps = torch.randint(-1, 4, (4, 12, 12), generator=torch.Generator().manual_seed(0))
    batch = on_meta(MutualRegions.of(maps, 2))
    loss = DenseSwAVLoss(
        2, 3, 5, queue_length=9, queue_start=1, region_vector=region_vector, reduction=reduction
    ).to("meta")
    embeddings = torch.empty(4, 5, 3, 3, device="meta", dtype=torch.bfloat16, requires_grad=True)
    prototypes = torch.empty(3, 5, device="meta", requires_grad=True)
    monkeypatch.setattr(loss, "_check_enough", lambda scores: None)
    with pretended_gpu(monkeypatch) as launched:
        # At the first call places of pixels on the axes are worked out, and kept.
        loss(embeddings, prototypes, batch)
        launched.clear()
        with no_waiting() as forward:
            value = loss(embeddings, prototypes, batch)
        with no_waiting() as backward:
            value.backward()
    assert len(launched) >= 2 and forward.calls > 50 and backward.calls > 20
    assert forward.carried == backward.carried == 0
    assert embeddings.grad.shape == embeddings.shape and prototypes.grad.shape == prototypes.shape
    with pytest.raises(NotImplementedError, match="out of meta tensor"):
        loss.health  # noqa: B018  (reading it is what waits)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("region_vector", ["pixel", "region", "representative"])
def test_nothing_waits_on_a_real_gpu(region_vector):
    maps = torch.randint(-1, 4, (4, 12, 12), generator=torch.Generator().manual_seed(0)).cuda()
    batch = MutualRegions.of(maps, 2)
    loss = DenseSwAVLoss(2, 3, 5, queue_length=9, queue_start=1, region_vector=region_vector).cuda()
    embeddings = torch.randn(4, 5, 3, 3, device="cuda", requires_grad=True)
    prototypes = torch.eye(5, device="cuda")[:3].requires_grad_()
    loss(embeddings, prototypes, batch).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss(embeddings, prototypes, batch).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(loss.health["loss"])


@pytest.mark.parametrize("start", [2**22, 2**31 - 5, 2**40, 2**62])
def test_ids_may_be_hashes(start):
    """Numbers that a table could not have a place for each of."""
    generator = torch.Generator().manual_seed(start % 97)
    ids = torch.randint(-1, 9, (4, 12, 10), generator=generator)
    hashes = start + torch.randperm(1000, generator=generator)[:9].sort().values * 7919
    far = torch.where(ids >= 0, hashes[ids.clamp(min=0)], ids)
    embeddings = torch.randn(4, 8, 4, 5, generator=generator)
    found, wanted = (region_vectors.pool_regions(embeddings, each) for each in (far, ids))
    assert torch.equal(found.vectors, wanted.vectors) and torch.equal(found.counts, wanted.counts)
    assert torch.equal(found.index[:, 0], wanted.index[:, 0])
    assert torch.equal(found.index[:, 1], hashes[wanted.index[:, 1]])
    one, other = MutualRegions.of(far, 2), MutualRegions.of(ids, 2)
    assert torch.equal(one.rows, other.rows) and torch.equal(one.counts, other.counts)


@pytest.mark.parametrize("wrong", [np.zeros((1, 4, 4), int), [[0]], None, "0"])
def test_what_is_no_tensor_of_regions_is_refused(wrong):
    for pool in (region_vectors.pool_regions, lambda embeddings, regions: index_regions(regions)):
        with pytest.raises(ValueError, match="regions must be a tensor"):
            pool(torch.randn(1, 2, 2, 2), wrong)


@pytest.mark.parametrize("wrong", [["pixel"], {}, "Pixel", None, 1.5])
def test_another_way_to_normalize_is_refused(wrong):
    with pytest.raises(ValueError, match="normalize must be one of"):
        region_vectors.pool_regions(
            torch.randn(1, 2, 2, 2), torch.zeros(1, 4, 4, dtype=torch.int64), normalize=wrong
        )
