"""The change of colors in 8 bits is that in floats, up to rounding, for images of any shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vice.errors import UserError
from vice.experiments.benchmark.data import texture
from vice.normalize import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    denormalize,
    normalize,
    normalize_bytes,
)
from vice.views import color_bytes
from vice.views.color import GRAY
from vice.views.photometric import Photometric

NOTHING = {
    "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0,
    "jitter_probability": 1.0, "grey_probability": 0.0, "blur_probability": 0.0,
}  # fmt: skip
#: What alone is done, and by how many levels its result may differ: half a one is rounding, and
#: OpenCV's weights of a matrix have 10 bits.
ALONE = {
    "brightness": ({"brightness": 0.8}, 0.51),
    "contrast": ({"contrast": 0.8}, 0.51),
    "saturation": ({"saturation": 0.8}, 0.8),
    "hue": ({"hue": 0.5}, 0.51),
    "gray": ({"grey_probability": 1.0}, 0.8),
    "blur": ({"blur_probability": 1.0, "jitter_probability": 0.0}, 0.52),
    "nothing": ({"jitter_probability": 0.0}, 0.01),
}


def pictures(rng: np.random.Generator, count: int = 6) -> np.ndarray:
    smooth = [texture(40, 56, seed=seed) for seed in range(count // 2)]
    return np.stack([*smooth, *rng.integers(0, 256, (count - len(smooth), 40, 56, 3), np.uint8)])


def levels_apart(change: Photometric, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    params = change.draw(rng, len(images))
    floats = torch.from_numpy(images).permute(0, 3, 1, 2)
    exact, bytes_ = change(floats, params), change.change_bytes(images, params)
    assert bytes_.dtype == np.uint8 and bytes_.shape == images.shape
    found = normalize_bytes(torch.from_numpy(bytes_))
    return (255 * (denormalize(exact) - denormalize(found))).abs().numpy()


@pytest.mark.parametrize("name", ALONE)
def test_each_change_alone_agrees_with_floats(name, rng):
    options, most = ALONE[name]
    change = Photometric(**{**NOTHING, **options})
    for _ in range(5):
        assert levels_apart(change, pictures(rng), rng).max() < most


def test_all_changes_in_any_order_agree_within_rounding(rng):
    """What follows a rounding may stretch it: contrast by 1.8, and noise has extremes all over."""
    apart = np.concatenate([levels_apart(Photometric(), pictures(rng), rng) for _ in range(30)])
    assert apart.mean() < 0.4 and np.quantile(apart, 0.999) < 3 and apart.max() < 7


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (40, 1)])
def test_images_smaller_than_the_kernel(shape, rng):
    images = rng.integers(0, 256, (8, *shape, 3), np.uint8)
    change = Photometric(blur_probability=1.0, jitter_probability=0.0)
    assert levels_apart(change, images, rng).max() < 0.8


def test_noise_is_that_of_the_device_but_for_rounding_and_images_are_left_alone(rng):
    images = pictures(rng)
    before, noise = images.copy(), rng.random(images.shape[:3]) < 0.2
    change = Photometric()
    params = change.draw(rng, len(images))
    floats = torch.from_numpy(images).permute(0, 3, 1, 2)
    exact = change(floats, params, torch.from_numpy(noise))
    found = change.change_bytes(images, params, noise)
    where = torch.from_numpy(noise)[:, None].expand_as(exact)
    apart = 255 * (denormalize(exact) - denormalize(normalize_bytes(torch.from_numpy(found))))
    assert apart[where].abs().max() <= 0.501 and np.array_equal(images, before)
    assert len(np.unique(found[noise])) > 100
    assert np.array_equal(found[:2], change.change_bytes(images[:2], params[:2], noise[:2]))


def plain_noise(mask: np.ndarray, seed: int) -> np.ndarray:
    """Levels of all pixels by Python's whole numbers and floats."""
    full, drawn = 2**64 - 1, np.zeros((*mask.shape, 3))
    for counter in range(drawn.size):
        state = seed + (counter + 1) * 0x9E3779B97F4A7C15 & full
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & full
        state = (state ^ state >> 27) * 0x94D049BB133111EB & full
        drawn.flat[counter] = ((state ^ state >> 31) >> 40) * 2.0**-23 - 1.0
    levels = drawn * (255 * np.array(IMAGENET_STD)) + 255 * np.array(IMAGENET_MEAN)
    return np.where(mask[..., None], np.rint(levels), 7).astype(np.uint8)


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_noise_is_that_of_plain_numbers(seed, rng):
    for share in (0.0, 0.3, 1.0):
        mask = rng.random((17, 23)) < share
        out = np.full((17, 23, 3), 7, np.uint8)
        color_bytes.fill_noise(out, mask, seed)
        np.testing.assert_array_equal(out, plain_noise(mask, seed))


def test_noise_in_whole_numbers_has_the_levels_of_floats_for_whatever_is_drawn():
    drawn = np.arange(2**24, dtype=np.uint64)
    for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        whole = drawn * color_bytes._FACTORS[channel] + color_bytes._OFFSETS[channel]
        floats = (drawn * 2.0**-23 - 1.0) * (255 * np.float64(std)) + 255 * np.float64(mean)
        assert np.array_equal(whole >> color_bytes._FRACTION, np.rint(floats).astype(np.uint64))


def test_the_mean_of_contrast_is_that_of_opencv(rng, monkeypatch):
    tables = []
    monkeypatch.setattr(color_bytes, "_look_up", lambda image, values: tables.append(values))
    for shape in ((1, 1), (3, 7), (96, 96), (128, 128), (97, 131)):
        image = rng.integers(0, 256, (*shape, 3), np.uint8)
        color_bytes.adjust_contrast(image, 0.0)
        mean = float(np.dot(color_bytes.cv2.mean(image)[:3], GRAY))
        assert np.array_equal(tables.pop(), np.full(256, np.float32(mean)))


def test_what_does_not_fit_is_refused(rng):
    change = Photometric()
    with pytest.raises(UserError, match="2 parameters for 6 images"):
        change.change_bytes(pictures(rng), change.draw(rng, 2))
    with pytest.raises(UserError, match="noise must be bool"):
        change.change_bytes(pictures(rng), change.draw(rng, 6), np.ones((6, 2, 2), bool))
    with pytest.raises(UserError, match="noise must be bool .* got uint8"):
        change.change_bytes(pictures(rng), change.draw(rng, 6), np.ones((6, 40, 56), np.uint8))
    with pytest.raises(UserError, match=r"uint8 \(B, h, w, 3\), got float32 \(6, 40, 56, 3\)"):
        change.change_bytes(pictures(rng).astype(np.float32), change.draw(rng, 6))


def test_a_blur_that_hardly_blurs_takes_few_taps(monkeypatch):
    lengths = []
    real = color_bytes.cv2.GaussianBlur

    def blur(image, size, *rest, **more):
        lengths.append(size[0])
        return real(image, size, *rest, **more)

    monkeypatch.setattr(color_bytes.cv2, "GaussianBlur", blur)
    for sigma in (0.1, 1.0, 2.0, 50.0):
        color_bytes.gaussian_blur(np.zeros((30, 30, 3), np.uint8), sigma, 17)
    assert lengths == [3, 9, 17, 17]


def test_bytes_are_normalized_as_ever_and_stay_interleaved(rng):
    images = torch.from_numpy(pictures(rng))
    found = normalize_bytes(images)
    torch.testing.assert_close(found, normalize(images.permute(0, 3, 1, 2)), atol=1e-6, rtol=0)
    assert found.is_contiguous(memory_format=torch.channels_last)
