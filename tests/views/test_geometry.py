from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from vice.views.geometry import (
    content_edges,
    content_weights,
    contextual_boxes,
    draw_point,
    mask_rectangles,
    resolution_boxes,
    unit_von_mises,
)

CANNY = {"canny_low": 10.0, "canny_high": 50.0}


def weigh(image: np.ndarray, floor: float = 0.005, **thresholds: float) -> np.ndarray:
    return content_weights(content_edges(image, **{**CANNY, **thresholds}), floor)


@pytest.mark.parametrize("mode", [0.0, math.pi / 2])
def test_von_mises_on_the_unit_interval(mode: float) -> None:
    drawn = unit_von_mises(np.random.default_rng(0), mode, (40, 100))
    assert drawn.shape == (40, 100)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    # Back on the circle and turned to mode 0, it is what scipy calls vonmises(2).
    turned = (drawn.ravel() * 2 * math.pi - math.pi - mode + math.pi) % (2 * math.pi) - math.pi
    assert stats.kstest(turned, stats.vonmises(2.0).cdf).pvalue > 1e-3


def test_content_of_a_flat_image_is_uniform() -> None:
    weights = weigh(np.full((20, 30, 3), 90, np.uint8))
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, 0.005, rtol=1e-6)


def test_content_lies_at_edges() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 255
    weights = weigh(image)
    # One column of edge, dilated to three, blurred by [1 2 1]/4 to five.
    edge = np.flatnonzero(weights[20] > 0.5)
    assert 29 in edge or 30 in edge
    np.testing.assert_allclose(
        weights[20, edge.min() - 1 : edge.max() + 2],
        np.array([0.25, 0.75, 1, 0.75, 0.25]) + 0.005,
        atol=0.003,
    )
    far = np.r_[weights[20, : edge.min() - 1], weights[20, edge.max() + 2 :]]
    np.testing.assert_allclose(far, 0.005, rtol=1e-6)


def test_thresholds_are_used() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 20
    assert weigh(image).max() > 0.9
    assert weigh(image, 0.1, canny_low=400.0, canny_high=500.0).max() < 0.11


def test_gradients_are_euclidean() -> None:
    image = np.repeat(np.tri(60, 60, dtype=np.uint8)[..., None] * 14, 3, axis=2)
    # Binomial blur and Sobel of a diagonal step: |g| < 50, though |gx| + |gy| > 50.
    step = ndimage.convolve(image[..., 0] * 1.0, np.outer([1, 2, 1], [1, 2, 1]) / 16)
    gx, gy = ndimage.sobel(step, 1), ndimage.sobel(step, 0)
    assert np.hypot(gx, gy)[5:-5, 5:-5].max() < 48
    assert (np.abs(gx) + np.abs(gy))[5:-5, 5:-5].max() > 53
    np.testing.assert_allclose(weigh(image), 0.005, rtol=1e-6)


def test_points_follow_the_weights() -> None:
    weights = np.array([[1, 0, 3], [0, 0, 4]], np.float32)
    rng = np.random.default_rng(1)
    counts = np.zeros((2, 3))
    for _ in range(4000):
        x, y = draw_point(weights, rng)
        counts[y, x] += 1
    assert counts[weights == 0].sum() == 0
    assert stats.chisquare(counts[weights > 0], weights[weights > 0] * 500).pvalue > 1e-3


shapes = st.tuples(st.integers(1, 900), st.integers(1, 900))
sizes = st.tuples(st.integers(1, 500), st.integers(1, 500))


def check_boxes(boxes: np.ndarray, shape: tuple[int, int], point: tuple[int, int]) -> None:
    assert boxes.dtype == np.int32
    x0, y0, x1, y1 = boxes.T
    assert (x0 >= 0).all() and (y0 >= 0).all()
    assert (x1 <= shape[1]).all() and (y1 <= shape[0]).all()
    assert (x1 > x0).all() and (y1 > y0).all()
    assert x0[0] <= point[0] < x1[0] and y0[0] <= point[1] < y1[0]
    center_x, center_y = (x0[0] + x1[0]) // 2, (y0[0] + y1[0]) // 2
    assert ((x0 <= center_x) & (center_x < x1)).all()
    assert ((y0 <= center_y) & (center_y < y1)).all()


@settings(deadline=None, max_examples=200)
@given(shapes, sizes, st.floats(0, 1), st.floats(0, 1), st.integers(1, 7), st.integers(0, 2**32))
def test_boxes_lie_inside_and_cover_the_primary_centre(
    shape: tuple[int, int], size: tuple[int, int], x: float, y: float, count: int, seed: int
) -> None:
    point = min(int(x * shape[1]), shape[1] - 1), min(int(y * shape[0]), shape[0] - 1)
    rng = np.random.default_rng(seed)
    boxes = contextual_boxes(point, shape, size, (0.5, 2.0), count, rng)
    assert len(boxes) == count
    check_boxes(boxes, shape, point)
    check_boxes(resolution_boxes(point, shape, size, (0.5, 1, 2, 4, 8), count, rng), shape, point)


def draw_many(count: int, repeats: int = 1500) -> np.ndarray:
    """Boxes far from all borders, (repeats, count, 4)."""
    rng = np.random.default_rng(3)
    args = ((5000, 5000), (10_000, 10_000), (200, 400), (0.5, 2.0), count)
    return np.stack([contextual_boxes(*args, rng) for _ in range(repeats)]).astype(float)


def test_sizes_sectors_and_radii() -> None:
    boxes = draw_many(5)
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    np.testing.assert_allclose(width, 2 * height, atol=1.01)
    zoom = height / 200
    assert stats.kstest(zoom.ravel(), stats.uniform(0.5, 1.5).cdf).pvalue > 1e-3
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    assert np.abs(centers[:, 0] - 5000.5).max() <= 0.5
    shift = (centers[:, 1:] - centers[:, :1]) / np.stack([width, height], -1)[:, 1:] * 2
    radius = np.hypot(shift[..., 0], shift[..., 1])
    assert radius.max() < 1.03
    turned = (radius.ravel() * 2 * math.pi - math.pi - math.pi / 2 + math.pi) % (2 * math.pi)
    assert stats.kstest(turned - math.pi, stats.vonmises(2.0).cdf).statistic < 0.03
    angle = np.arctan2(shift[..., 1], shift[..., 0]) % (2 * math.pi)
    far = radius > 0.3  # rounding to pixels blurs the angle of small shifts
    for sector in range(4):
        offset = (angle[:, sector][far[:, sector]] / (math.pi / 2) - sector + 1.5) % 4 - 1.5
        assert offset.min() > -0.06
        assert offset.max() < 1.06
        assert abs(offset.mean() - 0.5) < 0.02  # von Mises(0, 2): the middle of the sector


def test_resolution_views_use_consecutive_bins() -> None:
    rng = np.random.default_rng(0)
    ratios = (0.5, 1, 2, 4, 8)
    for _ in range(50):
        boxes = resolution_boxes((5000, 5000), (10_000, 10_000), (100, 100), ratios, 5, rng)
        zoom = (boxes[:, 2] - boxes[:, 0]) / 100
        assert (np.array([0.5, 1, 2, 4, 0.5]) <= zoom + 0.006).all()
        assert (zoom - 0.006 <= np.array([1, 2, 4, 8, 1])).all()
        assert np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - 5000.5).max() <= 1


@settings(deadline=None)
@given(st.integers(1, 6), sizes, st.floats(0, 1), st.integers(0, 2**32))
def test_mask_rectangles_lie_inside(
    count: int, size: tuple[int, int], intensity: float, seed: int
) -> None:
    boxes = mask_rectangles(count, size, intensity, np.random.default_rng(seed))
    assert boxes.shape == (count, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= np.array(size[::-1])).all()
    assert (sides <= np.maximum(np.rint(intensity * np.array(size[::-1])), 1)).all()
    assert (sides > 0).all() if intensity > 0 else (sides == 0).all()


def test_mask_rectangles_take_their_share() -> None:
    boxes = mask_rectangles(4000, (1000, 2000), 0.25, np.random.default_rng(0)).astype(float)
    inside = (boxes[:, 0] > 0) & (boxes[:, 2] < 2000) & (boxes[:, 1] > 0) & (boxes[:, 3] < 1000)
    assert inside.mean() > 0.6
    share = (boxes[inside, 2:] - boxes[inside, :2]) / (2000, 1000) / 0.25
    assert 0.55 < share.mean() < 0.72
    assert share.max() <= 1.0
    assert share.max() > 0.95
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 / (2000, 1000) - 0.5
    assert np.abs(center.mean(axis=0)).max() < 0.02
