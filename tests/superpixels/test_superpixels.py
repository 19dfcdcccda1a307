from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vice.errors import UserError
from vice.superpixels import Superpixels, backend, grid, relabel, slic

needs_contrib = pytest.mark.skipif(
    not hasattr(getattr(cv2, "ximgproc", None), "createSuperpixelSLIC"),
    reason="needs cv2.ximgproc of opencv-contrib",
)

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (90, 130, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def fresh_backend() -> Iterator[None]:
    backend.cache_clear()
    yield
    backend.cache_clear()


def assert_contiguous(regions: np.ndarray) -> None:
    assert regions.dtype == np.int32
    np.testing.assert_array_equal(np.unique(regions), np.arange(regions.max() + 1))


@needs_contrib
@pytest.mark.parametrize(
    ("blur_sigma", "line"), [(None, [64, 128, 64]), (0.8, [61, 134, 61]), (4.0, [84, 88, 84])]
)
def test_slic_is_opencv_on_the_blurred_lab_image(blur_sigma, line) -> None:
    # OpenCV blurs bytes in fixed point, with a Gaussian in 256ths.
    side = math.exp(-1 / (2 * blur_sigma**2)) if blur_sigma else 0.5
    np.testing.assert_allclose(line, 256 * np.array([side, 1, side]) / (1 + 2 * side), atol=1)
    kernel = np.outer(line, line) / 256**2
    blurred = cv2.filter2D(NOISE.astype(np.float64), -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    lab = cv2.cvtColor(np.floor(blurred + 0.5).astype(np.uint8), cv2.COLOR_RGB2LAB)
    solver = cv2.ximgproc.createSuperpixelSLIC(lab, cv2.ximgproc.SLIC, 15, 12.0)
    solver.iterate(3)
    expected = np.unique(solver.getLabels(), return_inverse=True)[1].reshape(90, 130)
    actual = slic(NOISE, region_size=15, ruler=12.0, iterations=3, blur_sigma=blur_sigma)
    np.testing.assert_array_equal(actual, expected)
    assert_contiguous(actual)


def test_slic_follows_edges() -> None:
    image = np.full((200, 300, 3), 30, np.uint8)
    truth = np.hypot(*np.ogrid[-100:100, -150:150]) < 61
    image[truth] = (220, 180, 40)
    regions = slic(image)
    assert 100 < regions.max() + 1 < 200
    inside = np.bincount(regions.ravel(), truth.ravel()) / np.bincount(regions.ravel())
    errors = (inside.round()[regions].astype(bool) != truth).sum()
    squares = grid(200, 300, 20)
    inside = np.bincount(squares.ravel(), truth.ravel()) / np.bincount(squares.ravel())
    assert errors < 0.5 * (inside.round()[squares].astype(bool) != truth).sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 50))
def test_slic_of_any_size(height: int, width: int, region_size: int) -> None:
    regions = slic(NOISE[:height, :width], region_size)
    assert regions.shape == (height, width)
    assert_contiguous(regions)


def test_slic_of_extreme_shapes() -> None:
    for shape in ((1, 1), (10_000, 50), (1, 3000)):
        image = np.resize(NOISE, (*shape, 3))
        regions = slic(image)
        assert regions.shape == shape
        assert_contiguous(regions)
    assert slic(NOISE[:1, :1]).tolist() == [[0]]


def test_short_images_are_continued_by_their_border() -> None:
    short = NOISE[:9, :80]
    continued = np.concatenate([short, np.repeat(short[-1:], 11, axis=0)])
    np.testing.assert_array_equal(slic(short), relabel(slic(continued)[:9]))


@pytest.mark.parametrize(
    "bad", [NOISE[..., 0], NOISE.astype(np.float32), NOISE[..., :2], NOISE[:0]]
)
def test_slic_wants_rgb(bad: np.ndarray) -> None:
    with pytest.raises(UserError, match="uint8 RGB"):
        slic(bad)
    with pytest.raises(UserError, match="uint8 RGB"):
        Superpixels("grid")(bad)


def test_bad_parameters() -> None:
    for options in ({"region_size": 0}, {"ruler": 0.0}, {"iterations": 0}, {"blur_sigma": 0.0}):
        with pytest.raises(UserError, match="positive"):
            slic(NOISE, **options)
    with pytest.raises(UserError, match="region_size 0"):
        Superpixels(region_size=0)
    with pytest.raises(UserError, match="region_size 0"):
        grid(5, 5, 0)
    with pytest.raises(UserError, match="unknown method 'seeds'; use slic, grid"):
        Superpixels("seeds")  # type: ignore[arg-type]


@needs_contrib
def test_fallback_to_skimage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_opencv = slic(NOISE)
    backend.cache_clear()
    monkeypatch.delattr(cv2.ximgproc, "createSuperpixelSLIC")
    for size in ((90, 130), (1, 1), (5, 70)):
        regions = slic(NOISE[: size[0], : size[1]])
        assert regions.shape == size
        assert_contiguous(regions)
        if size == (90, 130):
            assert 0.5 < regions.max() / with_opencv.max() < 2
    assert [r.levelno for r in caplog.records].count(logging.WARNING) == 1
    assert "opencv-contrib" in caplog.text


def test_fallback_follows_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((100, 100, 3), 30, np.uint8)
    image[:, 47:] = (220, 180, 40)
    monkeypatch.setitem(sys.modules, "cv2", None)
    regions = slic(image)
    # The blur leaves one mixed column on either side of the edge.
    assert not set(np.unique(regions[:, :46])) & set(np.unique(regions[:, 48:]))


def test_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(UserError, match="pip install opencv-contrib"):
        slic(NOISE)
    assert Superpixels("pixel")(NOISE).max() == 90 * 130 - 1


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 70))
def test_grid(height: int, width: int, size: int) -> None:
    regions = grid(height, width, size)
    assert regions.shape == (height, width)
    assert_contiguous(regions)
    blocks = [[(y // size, x // size) for x in range(width)] for y in range(height)]
    rank = {block: n for n, block in enumerate(sorted({b for row in blocks for b in row}))}
    assert regions.tolist() == [[rank[block] for block in row] for row in blocks]


def test_pixel_method() -> None:
    regions = Superpixels("pixel", region_size=20)(NOISE)
    np.testing.assert_array_equal(regions.ravel(), np.arange(90 * 130))
    np.testing.assert_array_equal(grid(90, 130, 1), regions)


@given(st.lists(st.integers(-3, 40) | st.integers(2**30, 2**31 - 1), min_size=1, max_size=30))
def test_relabel(values: list[int]) -> None:
    expected = {value: rank for rank, value in enumerate(sorted({v for v in values if v >= 0}))}
    actual = relabel(np.array([values], np.int64))
    assert actual.dtype == np.int32
    assert actual.tolist() == [[expected.get(value, -1) for value in values]]


def test_relabel_unsigned_and_empty() -> None:
    assert relabel(np.array([[9, 65535, 9]], np.uint16)).tolist() == [[0, 1, 0]]
    assert relabel(np.array([[9, 255]], np.uint8)).tolist() == [[0, 1]]
    assert relabel(np.zeros((0, 4), np.int32)).shape == (0, 4)
