"""Averages of pixels are OpenCV's to the bit, whichever way they are computed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vice.images import resize


def average(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_averages_of_colors_are_those_of_opencv_to_the_bit(
    height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # Few levels: many averages lie half way between two.
    image = rng.integers(0, 4, (height, width, 3), np.uint8) * np.uint8(rng.choice([1, 85]))
    new = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
    for method in ("auto", "area"):
        found = resize(image, *new, method)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, average(image, *new))


@pytest.mark.parametrize("shape", [(60, 50), (60, 50, 4), (1200, 900, 3)])
def test_other_images_are_averaged_alike(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(resize(image, 41, 37), average(image, 41, 37))
