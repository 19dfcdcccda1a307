"""Felzenszwalb's segmentation and the compact watershed, against definitions and scikit-image."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.segmentation
from hypothesis import given, settings
from hypothesis import strategies as st

from vice.errors import UserError
from vice.superpixels import Superpixels, felzenszwalb, watershed
from vice.superpixels.fill import fill_cache

NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
METHODS = {
    "felzenszwalb": {"scale": [50.0, 100.0], "sigma": [0.5, 0.8], "min_size": [5, 50]},
    "watershed": {"region_size": [7, 20], "compactness": [0.5, 1.0]},
}


def assert_covers(regions: np.ndarray, shape: tuple[int, ...]) -> None:
    assert regions.dtype == np.int32 and regions.shape == shape
    np.testing.assert_array_equal(np.unique(regions), np.arange(regions.max() + 1))


def same_partition(one: np.ndarray, two: np.ndarray) -> bool:
    pairs = len(set(zip(one.ravel().tolist(), two.ravel().tolist(), strict=True)))
    return pairs == len(np.unique(one)) == len(np.unique(two))


def test_felzenszwalb_is_scikit_images() -> None:
    expected = skimage.segmentation.felzenszwalb(NOISE, scale=60, sigma=0.7, min_size=9)
    found = felzenszwalb(NOISE, scale=60, sigma=0.7, min_size=9)
    assert same_partition(found, expected)
    assert np.bincount(found.ravel()).min() >= 9


def test_watershed_without_edges_gives_each_pixel_to_the_nearest_marker() -> None:
    flat = np.full((40, 60, 3), 90, np.uint8)
    found = watershed(flat, region_size=20)
    rows, columns = np.mgrid[:40, :60]
    markers = [(y, x) for y in (10, 30) for x in (10, 30, 50)]
    distance = np.stack([np.hypot(rows - y, columns - x) for y, x in markers])
    nearest = np.take_along_axis(distance, found[None], axis=0)[0]
    np.testing.assert_array_equal(nearest, distance.min(axis=0))


@pytest.mark.parametrize("compactness", [0.0, 1.0])
def test_watershed_is_scikit_images_on_the_gradient(compactness: float) -> None:
    gradient = _gradient(NOISE)
    markers = np.zeros((60, 80), int)
    # 60 / 8 rounds to 8, 80 / 8 is 10.
    places = [[int((i + 0.5) * n / k) for i in range(k)] for n, k in ((60, 8), (80, 10))]
    markers[np.ix_(*places)] = np.arange(1, 81).reshape(8, 10)
    expected = skimage.segmentation.watershed(gradient, markers, compactness=compactness)
    found = watershed(NOISE, region_size=8, compactness=compactness)
    np.testing.assert_array_equal(found, expected - 1)


def _gradient(image: np.ndarray) -> np.ndarray:
    import cv2
    from scipy.ndimage import sobel

    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    smooth = cv2.filter2D(image.astype(np.float64), -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    lab = cv2.cvtColor(np.floor(smooth + 0.5).astype(np.uint8), cv2.COLOR_RGB2LAB).astype(float)
    lengths = []
    for channel in np.moveaxis(lab, 2, 0):
        down, right = (sobel(channel, axis=axis, mode="mirror") / 8 for axis in (0, 1))
        lengths.append(np.sqrt(down**2 + right**2))
    return np.max(lengths, axis=0)


@pytest.mark.parametrize("method", METHODS)
def test_strong_edges_are_kept(method: str) -> None:
    image = np.full((80, 90, 3), 30, np.uint8)
    image[:, 47:] = (220, 180, 40)
    regions = Superpixels(method)(image)  # type: ignore[arg-type]
    # The blur leaves one mixed column on either side of the edge.
    assert not set(np.unique(regions[:, :46])) & set(np.unique(regions[:, 48:]))
    assert_covers(regions, (80, 90))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.sampled_from([*METHODS]))
def test_any_size(height: int, width: int, size: int, method: str) -> None:
    maker = Superpixels(method, region_size=size, min_size=size)  # type: ignore[arg-type]
    regions = maker(NOISE[:height, :width])
    assert_covers(regions, (height, width))
    np.testing.assert_array_equal(regions, maker(NOISE[:height, :width].copy()))


def test_compactness_approaches_squares() -> None:
    spread = [
        np.bincount(watershed(NOISE, 10, compactness).ravel()).std() for compactness in (0, 5, 1e4)
    ]
    assert spread[0] > spread[1] > spread[2]


@pytest.mark.parametrize("method", METHODS)
def test_cache_keys_hold_the_method_and_its_parameters(method: str, tmp_path: Path) -> None:
    image = NOISE[:30, :40]
    combinations = [{}, *({key: values[0]} for key, values in METHODS[method].items())]
    for options in combinations:
        maker = Superpixels(method, cache_dir=tmp_path, **options)  # type: ignore[arg-type]
        expected = Superpixels(method, **options)(image)  # type: ignore[arg-type]
        for _ in range(2):
            np.testing.assert_array_equal(maker(image), expected)
    Superpixels(cache_dir=tmp_path)(image)
    assert len(list(tmp_path.rglob("*.npz"))) == len(combinations) + 1


def test_caches_are_filled_ahead(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(NOISE).save(tmp_path / "a.png")
    options = {"method": "watershed", "cache_dir": str(tmp_path / "cache")}
    assert fill_cache([tmp_path / "a.png"], {"mode": "none"}, options).made == 1
    assert fill_cache([tmp_path / "a.png"], {"mode": "none"}, options).made == 0
    options = {"method": "files", "folder": str(tmp_path), "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(UserError, match="'files' are not kept: .* on disk already"):
        fill_cache([tmp_path / "a.png"], {"mode": "none"}, options)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (felzenszwalb, {"scale": 0.0}),
        (felzenszwalb, {"sigma": -1.0}),
        (felzenszwalb, {"min_size": 0}),
        (watershed, {"region_size": 0}),
        (watershed, {"compactness": -1.0}),
    ],
)
def test_bad_parameters(method, options: dict) -> None:
    with pytest.raises(UserError, match=f"{method.__name__}: .*{next(iter(options))}"):
        method(NOISE, **options)
    with pytest.raises(UserError, match="uint8 RGB"):
        method(NOISE[..., 0])


@pytest.mark.parametrize("method", METHODS)
def test_without_scikit_image(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(UserError, match="pip install scikit-image"):
        Superpixels(method)(NOISE)  # type: ignore[arg-type]
