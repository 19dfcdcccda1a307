"""Compiled region pooling against plain PyTorch in float64, whatever maps and cells are like."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.conftest import ragged_regions
from tests.regions.test_small_means import SHAPES
from vice.experiments.benchmark.data import block_regions
from vice.regions import (
    COHERENCE_GRADIENTS,
    compiled,
    index_regions,
    numbering,
    pool_regions,
    representative_regions,
)
from vice.regions.compiled.shared_library import library

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler")
#: Blocks of more pixels than are gathered at a time, and of one.
LARGE = [(2, 5, 2, 2, 70, 66), (1, 20, 3, 3, 3, 3)]
ORDERS = (torch.contiguous_format, torch.channels_last)


def means(cells, regions, mode, **options):
    """Means, and the gradient of a mix of them."""
    vectors = pool_regions(cells, regions, normalize=mode, **options).vectors
    weights = torch.arange(vectors.numel()).view_as(vectors).sin().to(vectors)
    return vectors, *torch.autograd.grad((vectors * weights).sum(), cells)


def representatives(cells, regions, prototypes, **options):
    """Vectors and coherence, and the gradient of a mix of both."""
    pooled, coherence = representative_regions(cells, regions, prototypes, **options)
    weights = torch.arange(pooled.vectors.numel()).view_as(pooled.vectors).sin().to(coherence)
    total = (pooled.vectors * weights).sum() + (coherence * weights[:, 0]).sum()
    return pooled.vectors, coherence, *torch.autograd.grad(total, cells)


def agree(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() <= tolerance * other.norm()


def leaf(cells, order=torch.contiguous_format):
    return cells.detach().clone(memory_format=order).requires_grad_()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mode", ["pixel", "region"])
@pytest.mark.parametrize("shape", SHAPES + LARGE)
def test_means_are_those_of_float64(rng, shape, mode, align_corners, order):
    maps, dim, rows, columns, height, width = shape
    cells = leaf(torch.randn(maps, dim, rows, columns), order)
    regions = torch.from_numpy(ragged_regions(rng, maps, height, width))
    assert compiled.takes(cells)
    found = means(cells, regions, mode, align_corners=align_corners)
    agree(found, means(leaf(cells.double()), regions, mode, align_corners=align_corners))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("gradient", COHERENCE_GRADIENTS)
@pytest.mark.parametrize("shape", SHAPES + LARGE)
def test_representatives_are_those_of_float64(rng, shape, gradient, align_corners, order):
    maps, dim, rows, columns, height, width = shape
    cells = leaf(torch.randn(maps, dim, rows, columns), order)
    regions = torch.from_numpy(ragged_regions(rng, maps, height, width))
    prototypes = F.normalize(torch.randn(6, dim), dim=1)
    options = {"align_corners": align_corners, "coherence_gradient": gradient}
    found = representatives(cells, regions, prototypes, **options)
    wide = leaf(cells.double())
    agree(found, representatives(wide, regions, prototypes.double(), **options))


@given(seed=st.integers(0, 10_000), prototypes=st.sampled_from([1, 15, 16, 17, 100]))
@settings(max_examples=40, deadline=None)
def test_any_sizes(seed, prototypes):
    """Also more prototypes than are scored of all maps at a time, and cells that pixels miss."""
    rng = np.random.default_rng(seed)
    maps, dim, rows, columns = rng.integers([1, 2, 1, 1], 9).tolist()
    size = rng.integers(2, 40, 2).tolist()
    cells = leaf(torch.from_numpy(rng.normal(size=(maps, dim, rows, columns))).float())
    regions = torch.from_numpy(ragged_regions(rng, maps, *size))
    concepts = F.normalize(torch.from_numpy(rng.normal(size=(prototypes, dim))).float(), dim=1)
    wide = leaf(cells.double())
    # Condition number: of cells that cancel to little, rounding is as much larger.
    pixels = F.interpolate(wide.detach(), size, mode="bilinear").norm(dim=1)
    slack = max(1.0, float(0.05 / pixels.min()) ** 2)
    for mode in ("pixel", "region"):
        agree(means(cells, regions, mode), means(wide, regions, mode), 1e-5 * slack)
    vectors, coherence, _ = representatives(cells, regions, concepts)
    pooled, _ = representative_regions(wide, regions, concepts.double())
    scores = [(each.double() @ concepts.double().t()).amax(1) for each in (vectors, pooled.vectors)]
    # Scores: between pixels that are all but level rounding chooses.
    torch.testing.assert_close(*scores, atol=1e-5 * slack, rtol=0)
    assert ((coherence >= 0) & (coherence <= 2.001)).all()


def test_the_same_bits_whatever_the_number_of_threads(rng):
    cells = leaf(torch.randn(7, 20, 6, 8))
    regions = torch.from_numpy(ragged_regions(rng, 7, 24, 33))
    prototypes = F.normalize(torch.randn(40, 20), dim=1)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 7, 16):
            torch.set_num_threads(threads)
            both = representatives(cells, regions, prototypes, coherence_gradient="through")
            found.append((*means(cells, regions, "pixel"), *both))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


SPECIAL = {
    "zeros": torch.zeros(8, 4, 4),
    "below epsilon": 1e-14 * torch.ones(8, 4, 4),
    "large": 1e15 * torch.ones(8, 4, 4),
    "opposite": torch.tensor([1.0, -1.0, 1.0, -1.0])
    + 1e-3 * torch.arange(128.0).view(8, 4, 4).sin(),
    "one cell": torch.zeros(8, 4, 4).index_fill_(1, torch.tensor([2]), 1.0),
    "nan": torch.ones(8, 4, 4).index_fill_(2, torch.tensor([3]), torch.nan),
    "inf": torch.ones(8, 4, 4).index_fill_(2, torch.tensor([2]), torch.inf),
}


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("pixels", [16, 17])
def test_special_cells_are_treated_as_by_plain_pytorch(monkeypatch, name, pixels):
    """Nothing, next to nothing, what cancels to the last digit, and what is no number."""
    both = torch.stack([SPECIAL[name], torch.arange(128.0).view(8, 4, 4).cos()])
    cells = leaf(both)
    regions = torch.full((2, pixels, pixels), -1)
    regions[:, 1:], regions[:, 8:, 5:] = 0, 4
    prototypes = torch.eye(8)
    found = []
    for way in (True, False):
        monkeypatch.setattr(compiled, "takes", lambda _, way=way: way)
        for mode in ("pixel", "region"):
            found.append(means(cells, regions, mode))
        for gradient in COHERENCE_GRADIENTS:
            options = {"coherence_gradient": gradient}
            found.append(representatives(cells, regions, prototypes, **options))
    for one, other in zip(found[:4], found[4:], strict=True):
        for mine, plain in zip(one, other, strict=True):
            # What is no number spreads, in a gradient to the cells around those it belongs to.
            known = plain.isfinite()
            assert torch.equal(known, known & mine.isfinite())
            assert mine is one[-1] or torch.equal(known, mine.isfinite())
            size = float(plain[known].abs().amax()) if known.any() else 1.0
            torch.testing.assert_close(mine[known], plain[known], rtol=2e-3, atol=2e-5 * size)


def test_pixels_of_no_region_get_and_give_nothing():
    cells = leaf(torch.randn(3, 4, 3, 3))
    regions = torch.full((3, 9, 9), -1)
    regions[1, 2:5, 3:] = 7
    # Cells that no pixel of a region lies beside are not even looked at.
    cells.data[0], cells.data[2], cells.data[1, :, 2] = torch.nan, torch.nan, torch.nan
    regions[1, 3:] = -1
    for *values, gradient in (
        means(cells, regions, "pixel"),
        representatives(cells, regions, torch.eye(4), coherence_gradient="through"),
    ):
        assert len(values[0]) == 1 and all(each.isfinite().all() for each in values)
        assert not gradient[0].any() and gradient[1].any() and not gradient[2].any()
        assert not gradient[1, :, 2].any()


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("bound", [None, 200])
def test_regions_are_numbered_as_by_plain_pytorch(rng, monkeypatch, dtype, bound):
    """Any integers, in any order in memory, any number below 0 for no region, and none at all."""
    regions = torch.from_numpy(rng.integers(-3, 100, (9, 4, 7))).permute(1, 0, 2).to(dtype)
    regions[1], regions[2] = -1, torch.iinfo(dtype).min
    for some in (regions, regions[1:3], regions[:0], regions[:, :0]):
        found = index_regions(some, bound)
        with monkeypatch.context() as patch:
            patch.setattr(numbering, "number_pixels", lambda *_: None)
            expected = index_regions(some, bound)
        for one, other in zip(found, expected, strict=True):
            same = one.dtype == other.dtype if isinstance(one, torch.Tensor) else True
            assert same and torch.equal(torch.as_tensor(one), torch.as_tensor(other))


def test_many_regions_between_the_same_cells():
    """A block of thousands of pixels, each in a region of its own."""
    cells = leaf(torch.randn(2, 5, 2, 1))
    regions = torch.randperm(2 * 70 * 60).view(2, 70, 60)
    wide = leaf(cells.double())
    agree(means(cells, regions, "pixel"), means(wide, regions, "pixel"))
    prototypes = F.normalize(torch.randn(3, 5), dim=1)
    found = representatives(cells, regions, prototypes)
    assert (found[0] - representatives(wide, regions, prototypes.double())[0]).norm() < 1e-4


def test_what_is_too_large_is_no_number():
    """As by plain PyTorch: a training that diverges must not look like one that gives nothing."""
    cells = leaf(torch.full((1, 4, 8, 8), 2e19))
    regions = torch.zeros(1, 16, 16, dtype=torch.long)
    assert all(value.isnan().all() for value in means(cells, regions, "pixel"))
    assert representatives(cells, regions, torch.eye(4))[0].isnan().all()


def test_signs_that_a_view_keeps_apart():
    cells = torch._neg_view(torch.ones(1, 1, 2, 2))
    assert pool_regions(cells, torch.zeros(1, 4, 4, dtype=torch.long)).vectors.item() == -1


def test_zeros_without_memory_are_zeros():
    ids = torch._efficientzerotensor((2, 4, 3), dtype=torch.int32, device="cpu")
    assert index_regions(ids).counts.tolist() == [12, 12]
    cells = leaf(torch.randn(2, 5, 2, 2))
    for found in (
        pool_regions(cells, torch.zeros(2, 4, 3).int()).vectors,
        representative_regions(cells, torch.zeros(2, 4, 3).int(), torch.eye(5))[0].vectors,
    ):
        nothing = torch._efficientzerotensor((2, 5), dtype=torch.float32, device="cpu")
        assert not torch.autograd.grad(found, cells, nothing)[0].any()


def test_another_default_device_changes_nothing():
    cells, regions = torch.ones(2, 3, 4, 4), torch.zeros(2, 8, 8, dtype=torch.long)
    numbered = index_regions(regions)
    with torch.device("meta"):
        found = pool_regions(cells, numbered).vectors
        _, coherence = representative_regions(cells, numbered, torch.eye(3, device="cpu"))
        assert torch.equal(index_regions(regions).row, numbered.row)
    assert found.device.type == "cpu" and found.isfinite().all() and not coherence.any()


@pytest.mark.parametrize("change", ["size", "counts", "row"])
def test_a_numbering_that_contradicts_itself_is_refused(change):
    numbered = index_regions(torch.zeros(2, 8, 8, dtype=torch.long))
    wrong = {"size": (3000, 3000), "counts": numbered.counts[:1], "row": numbered.row[:5]}
    with pytest.raises(ValueError, match="numbering of regions"):
        pool_regions(torch.ones(2, 3, 4, 4), numbered._replace(**{change: wrong[change]}))


def test_rows_of_another_integer_are_read_as_such():
    cells, regions = torch.randn(2, 3, 4, 4), torch.arange(2 * 64).view(2, 8, 8) // 5
    numbered = index_regions(regions)
    wide = numbered._replace(row=numbered.row.long())
    assert torch.equal(pool_regions(cells, wide).vectors, pool_regions(cells, numbered).vectors)


def test_threads_that_outlive_the_interpreter_pool_alone():
    """There no further threads are to be had."""
    script = """
import threading, time, torch
from vice.regions import pool_regions
torch.set_num_threads(2)
def late():
    threading.main_thread().join()
    time.sleep(0.5)
    print(pool_regions(torch.ones(4, 8, 5, 5), torch.zeros(4, 40, 40, dtype=torch.long)).counts)
threading.Thread(target=late).start()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith("tensor([1600, 1600"), done.stderr


def test_a_forked_process_has_threads_of_its_own():
    script = """
import os, torch
from vice.regions import pool_regions
torch.set_num_threads(3)
def pool():
    regions = torch.arange(40 * 40).view(1, 40, 40).expand(9, 40, 40) // 100
    return pool_regions(torch.ones(9, 4, 5, 5), regions).vectors
pool()
if os.fork() == 0:
    print(pool().sum(), flush=True)
    os._exit(0)
os.wait()
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "tensor(288.)\n", done.stderr


def test_an_interrupted_call_leaves_no_thread_behind(monkeypatch):
    """Memory that is freed must not be written to."""
    started, ended = threading.Event(), threading.Event()
    main = threading.current_thread()

    class Interrupted:
        @staticmethod
        def sum_regions(*_):
            if threading.current_thread() is main:
                assert started.wait(60)
                raise KeyboardInterrupt
            started.set()
            time.sleep(0.5)
            ended.set()
            return 0

    regions = index_regions(block_regions(4, 16, 4, "cpu"))
    monkeypatch.setattr(compiled, "library", Interrupted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            pool_regions(torch.ones(4, 3, 4, 4), regions)
    finally:
        torch.set_num_threads(before)
    assert ended.is_set()


def test_what_is_taken():
    cells = torch.empty(2, 3, 4, 4)
    assert compiled.takes(cells)
    with FakeTensorMode():
        assert not compiled.takes(torch.empty(2, 3, 4, 4))
    assert not compiled.takes(cells.double())
    assert not compiled.takes(cells.to("meta"))
    assert not compiled.takes(cells[:0])


def test_a_lack_of_memory_is_said(monkeypatch):
    class Without:
        sum_regions = staticmethod(lambda *_: 1)

    regions = index_regions(block_regions(2, 16, 4, "cpu"))
    monkeypatch.setattr(compiled, "library", Without)
    with pytest.raises(MemoryError, match="no memory for the regions of 512 pixels"):
        pool_regions(torch.ones(2, 3, 4, 4), regions)


@pytest.mark.parametrize("apart", [1e-2, 1e-3, 1e-4])
def test_coherence_of_nearly_equal_pixels_keeps_its_digits(apart):
    """Distances to the last digit of what cells are, those that differ in few digits included."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, 16, 8, 8, generator=generator)
    cells = leaf(torch.randn(1, 16, 1, 1, generator=generator) + apart * noise)
    regions = torch.arange(32 * 32).view(1, 32, 32) // 200
    prototypes = F.normalize(torch.randn(4, 16, generator=generator), dim=1)
    given = regions.expand(2, -1, -1), prototypes
    _, coherence, *_ = representatives(cells, *given, coherence_gradient="constant")
    exact = representatives(
        leaf(cells.double()), given[0], prototypes.double(), coherence_gradient="constant"
    )[1]
    # The representative itself is rounded to float32.
    torch.testing.assert_close(coherence.double(), exact, rtol=1e-6 + 2e-8 / apart, atol=0)
