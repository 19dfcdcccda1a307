from __future__ import annotations

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms.v2 import functional as reference

from tests.helpers.waiting import no_waiting
from vice.errors import UserError
from vice.normalize import IMAGENET_MEAN, IMAGENET_STD, denormalize, normalize
from vice.views.photometric import Photometric, PhotometricParams

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (30, 3, 20, 27), dtype=torch.uint8, generator=GENERATOR)
NOISE = torch.rand(30, 20, 27, generator=GENERATOR) < 0.2
NAMES = ("brightness", "contrast", "saturation", "hue")


def draw(seed: int, count: int, **options: object) -> PhotometricParams:
    return Photometric(**options).draw(np.random.default_rng(seed), count)


def one_by_one(images: torch.Tensor, params: PhotometricParams) -> torch.Tensor:
    """The same as Photometric, with torchvision, an image at a time."""
    results = []
    for index, image in enumerate(images):
        image = image.float() / 255
        if params.jitter[index]:
            for step in params.order[index]:
                change = getattr(reference, f"adjust_{NAMES[step]}")
                image = change(image, float(getattr(params, NAMES[step])[index]))
        if params.gray[index]:
            image = reference.rgb_to_grayscale(image, 3)
        if params.blur[index]:
            sigma = float(params.sigma[index])
            image = reference.gaussian_blur(image, [17, 17], [sigma, sigma])
        results.append(reference.normalize(image, list(IMAGENET_MEAN), list(IMAGENET_STD)))
    return torch.stack(results)


def test_matches_torchvision() -> None:
    params = draw(0, 30)
    assert params.jitter.any() and params.gray.any() and params.blur.any()
    actual = Photometric()(IMAGES, params)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, one_by_one(IMAGES, params), atol=1e-4, rtol=0)


def test_all_orders() -> None:
    params = draw(0, 24, jitter_probability=1.0, grey_probability=0.0, blur_probability=0.0)
    orders = np.array(list(itertools.permutations(range(4))), np.int8)
    params = replace(params, order=orders)
    expected = one_by_one(IMAGES[:24], params)
    torch.testing.assert_close(Photometric()(IMAGES[:24], params), expected, atol=1e-4, rtol=0)


def test_identity() -> None:
    photometric = Photometric.identity()
    params = photometric.draw(np.random.default_rng(0), 30)
    actual = photometric(IMAGES, params)
    torch.testing.assert_close(actual, normalize(IMAGES), atol=1e-6, rtol=0)
    expected = reference.normalize(IMAGES / 255, list(IMAGENET_MEAN), list(IMAGENET_STD))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    restored = (denormalize(actual) * 255).round().to(torch.uint8)
    assert torch.equal(restored, IMAGES)


def test_normalize_takes_floats_and_any_leading_shape() -> None:
    expected = normalize(IMAGES)
    torch.testing.assert_close(normalize(IMAGES / 255), expected, atol=1e-5, rtol=0)
    views = normalize(IMAGES.view(5, 6, 3, 20, 27))
    torch.testing.assert_close(views.view_as(expected), expected, atol=0, rtol=0)
    torch.testing.assert_close(normalize(IMAGES[0]), expected[0], atol=0, rtol=0)


def test_noise_only_under_the_mask() -> None:
    params = draw(1, 30)
    clean = Photometric()(IMAGES, params)
    noisy = Photometric()(IMAGES, params, NOISE)
    mask = NOISE[:, None].expand_as(clean)
    assert torch.equal(noisy[~mask], clean[~mask])
    values = noisy[mask]
    assert values.min() >= -1
    assert values.max() < 1
    assert stats.kstest(values.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert not Photometric()(IMAGES, params, torch.zeros_like(NOISE)).equal(noisy)


def splitmix64(seed: int, steps: int) -> int:
    """The published generator, one state after the other, in Python's integers."""
    word = (1 << 64) - 1
    state = seed
    for _ in range(steps):
        state = (state + 0x9E3779B97F4A7C15) & word
    value = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & word
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & word
    return value ^ (value >> 31)


def test_noise_is_splitmix64_of_the_seed() -> None:
    assert splitmix64(1234567, 1) == 6457827717110365317  # the generator's known first output
    params = draw(2, 2)
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    noise = Photometric()(IMAGES[:2, :, :3, :4].contiguous(), params, mask)
    for image, row, column, channel in itertools.product(range(2), range(3), range(4), range(3)):
        steps = (row * 4 + column) * 3 + channel + 1
        bits = splitmix64(int(params.noise_seed[image]), steps) >> 40
        assert noise[image, channel, row, column].item() == bits * 2.0**-23 - 1


def test_noise_differs_between_images_channels_and_draws() -> None:
    mask = torch.ones(4, 60, 60, dtype=torch.bool)
    images = torch.zeros(4, 3, 60, 60, dtype=torch.uint8)
    planes = torch.cat(
        [Photometric()(images, draw(seed, 4), mask).reshape(12, -1) for seed in (0, 1)]
    )
    correlation = np.corrcoef(planes.numpy()) - np.eye(24)
    assert np.abs(correlation).max() < 0.08
    shifted = np.corrcoef(planes[:, 1:].numpy(), planes[:, :-1].numpy())[:24, 24:]
    assert np.abs(shifted).max() < 0.08


def test_result_does_not_depend_on_the_batch() -> None:
    params = draw(3, 30)
    photometric = Photometric()
    together = photometric(IMAGES, params, NOISE)
    order = np.random.default_rng(0).permutation(30)
    shuffled = photometric(IMAGES[order], params[order], NOISE[order])
    torch.testing.assert_close(shuffled, together[order], atol=2e-5, rtol=0)
    for index in (0, 7, 29):
        part = slice(index, index + 1)
        alone = photometric(IMAGES[part], params[part], NOISE[part])
        torch.testing.assert_close(alone, together[part], atol=2e-5, rtol=0)
        mask = NOISE[part][:, None].expand_as(alone)
        assert torch.equal(alone[mask], together[part][mask])
    torch.manual_seed(99)
    assert torch.equal(photometric(IMAGES, params, NOISE), together)


def test_inputs_are_left_alone_and_any_layout_is_taken() -> None:
    before, params = IMAGES.clone(), draw(4, 30)
    expected = Photometric()(IMAGES, params, NOISE)
    assert torch.equal(IMAGES, before)
    strided = IMAGES.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    actual = Photometric()(strided, params, NOISE)
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=0)


def test_empty_batch() -> None:
    result = Photometric()(IMAGES[:0], draw(0, 0), NOISE[:0])
    assert result.shape == (0, 3, 20, 27)


def test_drawn_parameters() -> None:
    count = 20_000
    params = draw(5, count)
    for name, rate in (("jitter", 0.8), ("gray", 0.2), ("blur", 0.5)):
        assert abs(getattr(params, name).mean() - rate) < 0.015
    for name in ("brightness", "contrast", "saturation"):
        assert stats.kstest(getattr(params, name), stats.uniform(0.2, 1.6).cdf).pvalue > 1e-3
    assert stats.kstest(params.hue, stats.uniform(-0.2, 0.4).cdf).pvalue > 1e-3
    assert stats.kstest(params.sigma, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3
    orders, counts = np.unique(params.order, axis=0, return_counts=True)
    assert len(orders) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
    assert len(np.unique(params.noise_seed)) == count
    values = np.stack(
        [getattr(params, f.name).astype(float) for f in fields(params) if f.name != "order"]
    )
    assert np.abs(np.corrcoef(values) - np.eye(len(values))).max() < 0.04


def test_strength_scales_the_jitter() -> None:
    half = draw(0, 5000, strength=0.5)
    assert np.abs(half.brightness - 1).max() <= 0.4
    assert np.abs(half.contrast - 1).max() > 0.39
    assert 0.095 < np.abs(half.hue).max() <= 0.1 + 1e-6
    strong = draw(0, 5000, strength=2.0)
    assert strong.saturation.min() >= 0
    assert strong.saturation.max() > 2.5


def test_params_are_reproducible_and_can_be_cut_and_joined() -> None:
    first, again = draw(6, 12), draw(6, 12)
    joined = PhotometricParams.concatenate([first[:5], first[[5, 6]], first[np.arange(7, 12)]])
    assert len(joined) == 12
    for field in fields(PhotometricParams):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))
        np.testing.assert_array_equal(getattr(first, field.name), getattr(joined, field.name))
        assert getattr(joined, field.name).dtype == getattr(first, field.name).dtype


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("jitter_probability", {"jitter_probability": 1.1}),
        ("grey_probability", {"grey_probability": -0.1}),
        ("brightness", {"brightness": -1.0}),
        ("hue", {"hue": 0.6}),
        ("hue", {"strength": 3.0}),
        ("sigma", {"sigma": (2.0, 0.1)}),
        ("sigma", {"sigma": (0.0, 0.1)}),
        ("taps", {"taps": 16}),
    ],
)
def test_bad_options_are_named(name: str, options: dict) -> None:
    with pytest.raises(UserError, match=name):
        Photometric(**options)


def test_bad_batches() -> None:
    photometric, params = Photometric(), draw(0, 30)
    with pytest.raises(UserError, match="uint8"):
        photometric(IMAGES.float(), params)
    with pytest.raises(UserError, match="uint8"):
        photometric(IMAGES[0], params)
    with pytest.raises(UserError, match="30 parameters for 29 images"):
        photometric(IMAGES[:29], params)
    with pytest.raises(UserError, match="noise must be bool"):
        photometric(IMAGES, params, NOISE[:29])
    with pytest.raises(UserError, match="noise must be bool"):
        photometric(IMAGES, params, NOISE.float())


def test_parameters_travel_together_and_nothing_waits_for_them() -> None:
    images = IMAGES.to("meta")
    params = draw(0, 30)
    normalize(images)
    with no_waiting() as counted:
        actual = Photometric()(images, params)
    assert actual.shape == images.shape
    assert counted.carried == 2 and counted.calls > 100


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_what_the_cpu_gives() -> None:
    params = draw(7, 30)
    expected = Photometric()(IMAGES, params, NOISE)
    actual = Photometric()(IMAGES.cuda(), params, NOISE.cuda()).cpu()
    torch.testing.assert_close(actual, expected, atol=2e-3, rtol=0)
    mask = NOISE[:, None].expand_as(expected)
    assert torch.equal(actual[mask], expected[mask])
