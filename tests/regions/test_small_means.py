"""Small maps at once against the same maps one by one: values, gradients, and how they are cut."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import ragged_regions
from vice.experiments.benchmark.data import block_regions
from vice.regions import index_regions, pool, pool_regions, small_maps

pytestmark = pytest.mark.usefixtures("plain")
#: Maps, dimensions, cells and pixels: odd ratios, one row, one column, more cells than pixels.
SHAPES = [(3, 5, 4, 6, 17, 22), (2, 8, 1, 4, 9, 132), (2, 3, 5, 1, 5, 7), (4, 16, 7, 9, 6, 8)]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mode", ["pixel", "region"])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_ways_agree(rng, monkeypatch, shape, mode, align_corners):
    maps, dim, rows, columns, height, width = shape
    cells = torch.randn(maps, dim, rows, columns, dtype=torch.float64).requires_grad_()
    regions = torch.from_numpy(ragged_regions(rng, maps, height, width))
    # Two maps at a time: parts begin and end within the batch.
    monkeypatch.setattr(small_maps, "WIDE", 2 * dim * rows * columns)
    found = []
    for at_once in (True, False):
        monkeypatch.setattr(pool, "fits", lambda *some, answer=at_once: answer)
        vectors = pool_regions(cells, regions, normalize=mode, align_corners=align_corners).vectors
        weights = torch.arange(vectors.numel(), dtype=torch.float64).view_as(vectors).sin()
        found.append((vectors, *torch.autograd.grad((vectors * weights).sum(), cells)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=1e-11)


def test_what_fits():
    """The demo's maps do; the papers' would need matrices of many entries."""
    small = index_regions(block_regions(3, 96, 16, "cpu"))
    large = index_regions(block_regions(2, 400, 20, "cpu"))
    assert small_maps.fits(torch.empty(3, 32, 24, 24), small)
    assert not small_maps.fits(torch.empty(2, 128, 100, 100), large)
    assert not small_maps.fits(torch.empty(3, 32, 24, 24, device="meta"), small)
    nothing = index_regions(torch.full((3, 96, 96), -1))
    assert not small_maps.fits(torch.empty(3, 32, 24, 24), nothing)
