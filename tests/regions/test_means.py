from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conftest import ragged_regions
from vice.experiments.benchmark.data import block_regions
from vice.experiments.benchmark.memory import peak_extra_bytes
from vice.regions import fragments, index_regions, pool_regions, representative_regions
from vice.regions.bilinear import axis
from vice.regions.fragments import find_patches

pytestmark = pytest.mark.usefixtures("path")
MODES = ("pixel", "region", "score")
WITH_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ("cpu", pytest.param("cuda", marks=WITH_GPU))


def pool(mode, embeddings, regions):
    """Vectors of the regions, and their coherence where the best score picks them (else zeros)."""
    if mode == "score":
        prototypes = torch.eye(
            embeddings.shape[1], dtype=embeddings.dtype, device=embeddings.device
        )
        # The gradient that takes more.
        pooled, coherence = representative_regions(
            embeddings, regions, prototypes, coherence_gradient="through"
        )
        return pooled.vectors, coherence
    vectors = pool_regions(embeddings, regions, normalize=mode).vectors
    return vectors, vectors.new_zeros(len(vectors))


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
    for number, row in enumerate(numbered.row.view(3, -1)):
        own = (numbered.index[:, 0] == number).nonzero().squeeze(1).tolist()
        patches = find_patches(row, slice(own[0], own[-1] + 1), block, 12)
        inside = (row < len(numbered.counts)).nonzero().squeeze(1)
        pairs = {(int(row[p]), int(block[p])) for p in inside}
        assert sorted(pairs) == list(zip(patches.row.tolist(), patches.block.tolist(), strict=True))
        for p in inside:
            patch = int(patches.of_pixel[p])
            assert patches.row[patch] == row[p] and patches.block[patch] == block[p]
        assert set(patches.of_pixel[row == len(numbered.counts)].tolist()) <= {-1}


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


@pytest.mark.parametrize("mode", MODES)
def test_nothing_as_wide_as_the_embedding_is_made_at_view_resolution(mode):
    embeddings = torch.randn(3, 64, 25, 25, requires_grad=True)
    regions = torch.arange(25).view(5, 5).repeat_interleave(20, 0).repeat_interleave(20, 1)
    with Largest() as largest:
        vectors, more = pool(mode, embeddings, regions.expand(3, -1, -1))
        (vectors.square().sum() + more.sum()).backward()
    assert largest.bytes < 0.4 * 64 * 100 * 100 * 4


@pytest.mark.parametrize("mode", MODES)
def test_memory_is_little_more_than_the_gradient_that_is_asked_for(mode):
    """The paper's batch at less than half the side: 20 maps, 128 dimensions, stride 4."""
    cells = torch.randn(20, 128, 40, 40).contiguous(memory_format=torch.channels_last)
    embeddings = cells.requires_grad_()
    regions = block_regions(20, 160, 32, "cpu").int()

    def both() -> None:
        vectors, more = pool(mode, embeddings, regions)
        torch.autograd.grad(vectors.square().sum() + more.sum(), embeddings)

    extra = peak_extra_bytes(both, "cpu")
    size = embeddings.numel() * embeddings.element_size()
    # Small maps: kept beside it are 12 bytes a pixel, here 0.4 of the gradient's 32.
    assert size <= extra <= 1.8 * size


def test_recorded_memory_is_the_largest_sum_at_a_time():
    def call() -> None:
        first = torch.zeros(1000)
        second = first + 1
        del first
        second.add_(1)

    assert 8000 <= peak_extra_bytes(call, "cpu") < 10_000


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MODES)
def test_the_same_bits_under_deterministic_algorithms(mode, device):
    """Nothing without a deterministic form is called, and two calls agree to the last bit."""
    embeddings = torch.randn(2, 16, 8, 8, device=device, requires_grad=True)
    regions = torch.randint(-1, 5, (2, 32, 32), device=device)
    found = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            vectors, more = pool(mode, embeddings, regions)
            found.append([vectors, *torch.autograd.grad(vectors.sum() + more.sum(), embeddings)])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_autocast_changes_nothing():
    embeddings = torch.randn(2, 16, 8, 8, requires_grad=True)
    regions = torch.randint(0, 5, (2, 32, 32))
    plain = pool_regions(embeddings, regions).vectors
    with torch.autocast("cpu", torch.bfloat16):
        cast = pool_regions(embeddings, regions).vectors
        gradient = torch.autograd.grad(cast.square().sum(), embeddings)[0]
    assert torch.equal(plain, cast)
    torch.testing.assert_close(gradient, torch.autograd.grad(plain.square().sum(), embeddings)[0])


def test_a_matrix_has_no_more_entries_than_places():
    """cuSPARSE refuses one that has; entries of the same place are added up either way."""
    row, column = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 1, 1, 2, 0])
    values = torch.arange(1.0, 9)
    for shape in ((2, 3), (2, 8)):
        matrix = fragments._matrix(row, column, values, shape)
        assert matrix.layout == (torch.strided if shape == (2, 3) else torch.sparse_csr)
        expected = torch.zeros(shape).index_put((row, column), values, accumulate=True)
        assert torch.equal(matrix @ torch.eye(shape[1]), expected)
