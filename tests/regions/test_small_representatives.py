"""Representatives of small maps at once against the same maps one by one, and against float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ragged_regions
from tests.regions.test_small_means import SHAPES
from vice.experiments.benchmark.data import block_regions
from vice.regions import COHERENCE_GRADIENTS, index_regions, pool, small_maps
from vice.regions import representative_regions as representatives
from vice.regions.small_representatives import representatives_fit

pytestmark = pytest.mark.usefixtures("plain")


def both(cells, regions, prototypes, **options):
    """Vectors and coherence, and the gradient of a mix of both."""
    pooled, coherence = representatives(cells, regions, prototypes, **options)
    weights = torch.arange(pooled.vectors.numel()).view_as(pooled.vectors).sin().to(coherence)
    total = (pooled.vectors * weights).sum() + (coherence * weights[:, 0]).sum()
    return pooled.vectors, coherence, *torch.autograd.grad(total, cells)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("gradient", COHERENCE_GRADIENTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_both_ways_agree_with_float64(rng, monkeypatch, shape, gradient, align_corners):
    maps, dim, rows, columns, height, width = shape
    cells = torch.randn(maps, dim, rows, columns, requires_grad=True)
    regions = torch.from_numpy(ragged_regions(rng, maps, height, width))
    prototypes = F.normalize(torch.randn(6, dim), dim=1)
    # Two maps at a time: parts begin and end within the batch.
    monkeypatch.setattr(small_maps, "WIDE", 2 * dim * rows * columns)
    options = {"align_corners": align_corners, "coherence_gradient": gradient}
    wide = cells.detach().double().requires_grad_()
    exact = both(wide, regions, prototypes.double(), **options)
    for at_once in (True, False):
        monkeypatch.setattr(pool, "representatives_fit", lambda *some, answer=at_once: answer)
        for found, expected in zip(both(cells, regions, prototypes, **options), exact, strict=True):
            assert found.dtype == torch.float32
            assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("apart", [1e-2, 1e-4, 1e-6])
def test_small_distances_keep_their_digits(apart):
    """Cells that are nearly the same: inner products of float32 would know nothing of that."""
    cells = 1 + apart * torch.randn(2, 8, 4, 4)
    regions = torch.zeros(2, 16, 16, dtype=torch.long)
    prototypes = torch.eye(8)
    _, found = representatives(cells, regions, prototypes)
    pixels = F.interpolate(cells.double(), (16, 16), mode="bilinear")
    pixels = F.normalize(pixels, dim=1).flatten(2)
    best = (pixels.transpose(1, 2) @ prototypes.double()).amax(2).argmax(1)
    chosen = pixels[torch.arange(2), :, best].unsqueeze(2)
    expected = (pixels - chosen).norm(dim=1).mean(1)
    # Which pixel is best hangs on rounding of scores, so on a distance of that size.
    torch.testing.assert_close(found.double(), expected, rtol=2e-2, atol=1e-6)


def test_a_map_without_regions_and_pixels_without_one():
    cells = torch.randn(3, 4, 3, 3, requires_grad=True)
    regions = torch.full((3, 9, 9), -1)
    regions[1, 2:5, 3:] = 7
    vectors, coherence, gradient = both(cells, regions, torch.eye(4))
    assert vectors.shape == (1, 4) and coherence.shape == (1,)
    assert not gradient[0].any() and gradient[1].any() and not gradient[2].any()
    # Nothing of a pixel that has no region arrives.
    assert not gradient[1, :, 2].any()


def test_what_fits():
    regions = index_regions(block_regions(3, 96, 16, "cpu"))
    cells = torch.empty(3, 32, 24, 24)
    assert representatives_fit(cells, regions)
    assert not representatives_fit(cells.double(), regions)
    assert not representatives_fit(torch.empty(3, 32, 96, 96), regions)


@given(
    seed=st.integers(0, 10_000),
    prototypes=st.sampled_from([1, 2, 30]),
    apart=st.sampled_from([0.0, 0.05, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_the_chosen_pixel_is_the_best_of_all(seed, prototypes, apart):
    """Cells at a prototype, near one, or anywhere: with and without pixels whose best is known."""
    rng = np.random.default_rng(seed)
    concepts = F.normalize(torch.from_numpy(rng.normal(size=(prototypes, 5))).float(), dim=1)
    maps, height, width, rows, columns = rng.integers(1, 5, 5).tolist()
    near = concepts[torch.from_numpy(rng.integers(prototypes, size=(maps, rows, columns)))]
    cells = near + apart * torch.from_numpy(rng.normal(size=near.shape)).float()
    cells *= torch.from_numpy(rng.uniform(0.5, 2, (*near.shape[:3], 1))).float()
    cells = cells.permute(0, 3, 1, 2)
    size = (height * rows + 4, width * columns + 4)
    regions = torch.from_numpy(ragged_regions(rng, maps, *size))
    pooled, _ = representatives(cells, regions, concepts)
    dense = F.interpolate(cells.double(), size, mode="bilinear", align_corners=False)
    scores = torch.einsum("kd,bdhw->bkhw", concepts.double(), F.normalize(dense, dim=1)).amax(1)
    found = (pooled.vectors.double() @ concepts.double().t()).amax(1)
    best = [scores[number][regions[number] == region].max() for number, region in pooled.index]
    torch.testing.assert_close(found, torch.stack(best), atol=2e-6, rtol=0)


def test_what_is_no_number_comes_out_again():
    """A NaN is not lost in a region whose best pixel is known without looking at all scores."""
    cells = torch.ones(1, 4, 4, 4)
    cells[0, 1, 3, 3] = torch.nan
    regions = torch.zeros(1, 16, 16, dtype=torch.long)
    vectors = representatives(cells, regions, torch.eye(4))[0].vectors
    assert vectors.isnan().any()
