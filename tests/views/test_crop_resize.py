"""Cutting on the device against what workers do with OpenCV, and against the formula."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.waiting import no_waiting
from vice.errors import UserError
from vice.experiments.benchmark.data import texture
from vice.images import resize
from vice.superpixels import grid
from vice.views import ViewSampler
from vice.views.crop_resize import axis_weights, cut_views


def on_worker(image, boxes, flipped, size):
    """(M, 3, h, w): each view by OpenCV."""
    views = []
    for (x0, y0, x1, y1), mirrored in zip(boxes.tolist(), flipped, strict=True):
        crop = resize(image[y0:y1, x0:x1], *size)
        views.append(crop[:, ::-1] if mirrored else crop)
    return np.stack(views).transpose(0, 3, 1, 2)


def differences(image, boxes, flipped, size):
    found = cut_views(torch.from_numpy(image), boxes, flipped, size)
    assert found.dtype == torch.uint8
    return np.abs(found.numpy().astype(int) - on_worker(image, boxes, flipped, size))


def draw_boxes(rng, count, shape, sides=None):
    """Boxes anywhere in an image of a shape; of sides (heights, widths) if they are given."""
    height, width = shape
    heights, widths = sides or (rng.integers(1, n + 1, count) for n in shape)
    y, x = rng.integers(0, height - heights + 1), rng.integers(0, width - widths + 1)
    return np.stack([x, y, x + widths, y + heights], axis=1)


def cubic(x):
    """Keys' kernel with a = -3/4, from the paper's formula."""
    a, x = -0.75, abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def row_of_weights(length, new_length, new):
    """Weights of one new pixel, float64."""
    weights = np.zeros(length)
    scale = length / new_length
    if scale > 1:
        for old in range(length):
            overlap = min(old + 1, (new + 1) * scale) - max(old, new * scale)
            weights[old] = max(0.0, overlap) / scale
        return weights
    center = (new + 0.5) * scale - 0.5
    for tap in range(math.floor(center) - 1, math.floor(center) + 3):
        weights[min(max(tap, 0), length - 1)] += cubic(center - tap)
    return weights


def by_formula(image, boxes, flipped, size):
    """(M, 3, h, w) float64, not rounded, one pixel at a time."""
    out = np.zeros((len(boxes), 3, *size))
    for view, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        for y in range(size[0]):
            for x in range(size[1]):
                rows = row_of_weights(y1 - y0, size[0], y)
                columns = row_of_weights(x1 - x0, size[1], x)
                place = size[1] - 1 - x if flipped[view] else x
                crop = image[y0:y1, x0:x1].astype(np.float64)
                out[view, :, y, place] = np.einsum("y,x,yxc->c", rows, columns, crop)
    return out


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 2**32),
)
def test_the_formula_rounded(shape, size, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    boxes, flipped = draw_boxes(rng, 3, shape), rng.random(3) < 0.5
    found = cut_views(torch.from_numpy(image), boxes, flipped, size).numpy()
    exact = by_formula(image, boxes, flipped, size).clip(0, 255)
    # Half a level is what rounding takes; float32 may decide a half either way.
    assert np.abs(found - exact).max() <= 0.5 + 1e-3


@settings(deadline=None, max_examples=150)
@given(
    shape=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 2**32),
)
def test_never_two_levels_from_opencv(shape, size, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    boxes = draw_boxes(rng, 5, shape)
    boxes[0] = 0, 0, *shape[::-1]
    boxes[1, 2:] = boxes[1, :2] + 1
    assert differences(image, boxes, rng.random(5) < 0.5, size).max() <= 1


@pytest.mark.parametrize(
    ("heights", "widths", "share"),
    [
        ((100, 100), (100, 100), 0),
        ((101, 200), (101, 200), 1 / 1000),
        ((200, 200), (200, 200), 0),
        ((101, 200), (100, 100), 1 / 50),
        ((20, 99), (20, 99), 1 / 1000),
        ((20, 99), (100, 100), 1 / 1000),
        ((101, 200), (20, 99), 1 / 3),
        ((20, 99), (101, 200), 1 / 3),
    ],
    ids=[
        "same",
        "shrink",
        "half",
        "shrink one",
        "grow",
        "grow one",
        "rows shrink",
        "columns shrink",
    ],
)
@pytest.mark.parametrize("kind", ["texture", "noise"])
def test_share_that_differs_from_opencv_by_a_level(kind, heights, widths, share):
    rng, count = np.random.default_rng(0), 40
    noise = rng.integers(0, 256, (220, 240, 3), dtype=np.uint8)
    image = texture(220, 240) if kind == "texture" else noise
    sides = tuple(rng.integers(low, high + 1, count) for low, high in (heights, widths))
    boxes = draw_boxes(rng, count, (220, 240), sides)
    found = differences(image, boxes, rng.random(count) < 0.5, (100, 100))
    assert found.max() <= 1
    assert (found > 0).mean() <= share


def test_views_as_the_sampler_places_them():
    image, regions = texture(480, 640), grid(480, 640, 20)
    sampler = ViewSampler(size=(150, 170), scale=(0.5, 2.0))
    for seed in range(6):
        views = sampler(image, regions, np.random.default_rng(seed))
        placed = sampler.place(image, regions, np.random.default_rng(seed))
        for name in ("regions", "noise", "boxes", "flipped"):
            np.testing.assert_array_equal(getattr(placed, name), getattr(views, name))
        found = cut_views(torch.from_numpy(image), placed.boxes, placed.flipped, sampler.size)
        difference = np.abs(found.permute(0, 2, 3, 1).numpy().astype(int) - views.images)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.02


def test_flips_mirror_exactly():
    image = torch.from_numpy(texture(70, 90))
    boxes = np.array([[3, 5, 80, 21]] * 2)
    plain, mirrored = cut_views(image, boxes, np.array([False, True]), (40, 40))
    assert torch.equal(mirrored, plain.flip(-1))
    assert not torch.equal(mirrored, plain)


def test_a_crop_knows_nothing_of_its_surroundings():
    image = texture(80, 90)
    boxes = np.array([[20, 30, 41, 60], [20, 30, 28, 33], [25, 30, 26, 31]])
    other = np.full_like(image, 255)
    other[30:60, 20:41] = image[30:60, 20:41]
    flipped = np.array([False, True, False])
    first, second = (
        cut_views(torch.from_numpy(one), boxes, flipped, (24, 17)) for one in (image, other)
    )
    assert torch.equal(first, second)
    # Nor of other views: a single pixel fills its view.
    pixel = torch.from_numpy(image[30, 25])[:, None, None].expand(3, 24, 17)
    assert torch.equal(first[2], pixel)


@pytest.mark.parametrize("new_length", [1, 7, 64, 400])
def test_weights_add_up_and_end_with_their_crop(new_length):
    lengths = np.array([1, 2, 3, 64, 399, 400, 401, 2048])
    weights = axis_weights(lengths, new_length, np.zeros(len(lengths), bool))
    assert weights.shape == (8, new_length, 2048)
    torch.testing.assert_close(weights.sum(2), torch.ones(8, new_length))
    for row, length in zip(weights, lengths, strict=True):
        assert not row[:, length:].any()
    assert torch.equal(weights[-1].argmax(1).sort().values, weights[-1].argmax(1))


def test_products_stay_exact_whatever_a_training_has_chosen():
    image = torch.from_numpy(texture(120, 130))
    boxes, flipped = np.array([[0, 0, 130, 120], [7, 8, 40, 41]]), np.array([True, False])
    expected = cut_views(image, boxes, flipped, (60, 60))
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before = [backend.fp32_precision for backend in backends]
    try:
        torch.set_float32_matmul_precision("medium")
        chosen = [backend.fp32_precision for backend in backends]
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(cut_views(image, boxes, flipped, (60, 60)), expected)
        assert [backend.fp32_precision for backend in backends] == chosen != before
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_nothing_waits_for_the_device(monkeypatch):
    # There is no autocast of the meta device.
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    image = torch.empty(40, 50, 3, dtype=torch.uint8, device="meta")
    boxes = np.array([[0, 0, 30, 20], [5, 5, 50, 40]])
    with no_waiting() as counted:
        views = cut_views(image, boxes, np.array([True, False]), (24, 24))
    assert views.shape == (2, 3, 24, 24) and views.device.type == "meta"
    # Corners of the crops, and of each axis its lengths and the order of its pixels.
    assert counted.carried == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.zeros(3, 8, 9, dtype=torch.uint8)}, r"uint8 \(H, W, 3\).*\(3, 8, 9\)"),
        ({"image": torch.zeros(8, 9, 3)}, "float32"),
        ({"boxes": np.zeros((0, 4), int)}, "M at least 1"),
        ({"boxes": np.array([[0, 0, 10, 8]])}, "within 9 x 8"),
        ({"boxes": np.array([[-1, 0, 9, 8]])}, "within 9 x 8"),
        ({"boxes": np.array([[4, 4, 4, 8]])}, "must hold a pixel"),
        ({"flipped": np.array([False, True])}, "flipped must be bool"),
        ({"flipped": np.array([1])}, "flipped must be bool"),
        ({"size": (0, 4)}, "at least 1 pixel"),
    ],
)
def test_bad_inputs(change, message):
    sound = {
        "image": torch.zeros(8, 9, 3, dtype=torch.uint8),
        "boxes": np.array([[0, 0, 9, 8]]),
        "flipped": np.array([False]),
        "size": (4, 4),
    }
    cut_views(**sound)
    with pytest.raises(UserError, match=message):
        cut_views(**{**sound, **change})
