"""Representatives of small maps at once against the same maps one by one, and against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.conftest import ragged_regions
from tests.regions.test_dense_means import SHAPES
from vice.experiments.benchmark.data import block_regions
from vice.regions import COHERENCE_GRADIENTS, dense_means, index_regions, pool
from vice.regions import representative_regions as representatives
from vice.regions.dense_representatives import representatives_fit


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
    monkeypatch.setattr(dense_means, "WIDE", 2 * dim * rows * columns)
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
