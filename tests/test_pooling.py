from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conftest import ragged_regions
from vice.pooling import axis, find_patches
from vice.regions import index_regions, pool_regions


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple | list) else [made]:
            if isinstance(value, torch.Tensor) and value.layout == torch.strided:
                self.bytes = max(self.bytes, value.numel() * value.element_size())
        return made


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sizes", [(33, 9), (400, 100), (7, 7), (5, 1), (1, 4), (6, 13)])
def test_axes_are_where_interpolate_puts_them(sizes, align_corners):
    pixels, cells = sizes
    ramp = torch.randn(cells, dtype=torch.float64)
    low, high, share = axis(pixels, cells, ramp, align_corners=align_corners)
    expected = F.interpolate(
        ramp.view(1, 1, -1, 1), (pixels, 1), mode="bilinear", align_corners=align_corners
    ).flatten()
    torch.testing.assert_close(ramp[low] * (1 - share) + ramp[high] * share, expected)


def test_patches_are_the_pairs_of_region_and_cells(rng):
    regions = torch.from_numpy(ragged_regions(rng, 3, 17, 22))
    numbered = index_regions(regions)
    block = torch.from_numpy(rng.integers(0, 12, 17 * 22))
    patches = find_patches(numbered.row, len(numbered.counts), block, (3, 17 * 22, 12))
    inside = (numbered.row < len(numbered.counts)).nonzero().squeeze(1)
    pairs = {(int(numbered.row[p]), int(block[p % (17 * 22)])) for p in inside}
    assert sorted(pairs) == list(zip(patches.row.tolist(), patches.block.tolist(), strict=True))
    for position, p in enumerate(inside):
        patch = patches.of_pixel[position]
        assert patches.row[patch] == numbered.row[p]
        assert patches.block[patch] == block[p % (17 * 22)]
    for number in range(3):
        rows = patches.row[patches.bounds[number] : patches.bounds[number + 1]]
        assert set(numbered.index[rows, 0].tolist()) <= {number}


@pytest.mark.parametrize("rest", [0.0, 0.02, 0.2])
def test_cells_that_cancel_keep_their_digits(rest):
    """Between opposite cells a pixel's vector nearly vanishes; its direction still counts."""
    generator = torch.Generator().manual_seed(0)
    base, other = (torch.randn(32, generator=generator) for _ in range(2))
    cells = torch.stack([base, rest * other - base, base, rest * other - base], 1)
    embeddings = cells.view(1, 32, 1, 4).repeat(1, 1, 2, 1).requires_grad_()
    regions = torch.arange(4).repeat_interleave(33).repeat(9, 1)[None]
    pixels = F.interpolate(embeddings, (9, 132), mode="bilinear")
    assert pixels.norm(dim=1).min() < max(2 * rest, 0.04) * base.norm()
    found = pool_regions(embeddings, regions).vectors
    target = torch.randn(found.shape, generator=generator)
    gradient = torch.autograd.grad((found * target).sum(), embeddings)[0]
    exact = embeddings.detach().double().requires_grad_()
    dense = F.normalize(F.interpolate(exact, (9, 132), mode="bilinear"), dim=1)[0].flatten(1)
    sums = torch.zeros(4, 32, dtype=torch.float64).index_add(0, regions.flatten(), dense.T)
    expected = torch.autograd.grad((sums / 297 * target.double()).sum(), exact)[0]
    torch.testing.assert_close(found.double(), sums / 297, atol=1e-5, rtol=0)
    assert (gradient - expected).norm() < 1e-5 * expected.norm()


def test_cells_that_cancel_to_the_last_digit_do_not_blow_up():
    base = torch.randn(16, 1, 1, generator=torch.Generator().manual_seed(1))
    embeddings = torch.cat([base, -base * (1 + 2e-7)], 2)[None].requires_grad_()
    pooled = pool_regions(embeddings, torch.zeros(1, 3, 3, dtype=torch.long))
    assert pooled.vectors.abs().max() <= 1
    assert torch.autograd.grad(pooled.vectors.sum(), embeddings)[0].abs().max() < 100


def test_a_zero_embedding_has_a_finite_gradient():
    embeddings = torch.zeros(1, 4, 3, 3, requires_grad=True)
    pooled = pool_regions(embeddings, torch.zeros(1, 9, 9, dtype=torch.long))
    assert torch.equal(pooled.vectors, torch.zeros(1, 4))
    assert torch.isfinite(torch.autograd.grad(pooled.vectors.sum(), embeddings)[0]).all()


@pytest.mark.parametrize("mode", ["pixel", "region"])
def test_nothing_as_wide_as_the_embedding_is_made_at_view_resolution(mode):
    embeddings = torch.randn(3, 64, 25, 25, requires_grad=True)
    regions = torch.arange(25).view(5, 5).repeat_interleave(20, 0).repeat_interleave(20, 1)
    with Largest() as largest:
        pooled = pool_regions(embeddings, regions.expand(3, -1, -1), normalize=mode)
        pooled.vectors.square().sum().backward()
    assert largest.bytes < 0.4 * 64 * 100 * 100 * 4


def test_autocast_changes_nothing():
    embeddings = torch.randn(2, 16, 8, 8, requires_grad=True)
    regions = torch.randint(0, 5, (2, 32, 32))
    plain = pool_regions(embeddings, regions).vectors
    with torch.autocast("cpu", torch.bfloat16):
        cast = pool_regions(embeddings, regions).vectors
        gradient = torch.autograd.grad(cast.square().sum(), embeddings)[0]
    assert torch.equal(plain, cast)
    torch.testing.assert_close(gradient, torch.autograd.grad(plain.square().sum(), embeddings)[0])
