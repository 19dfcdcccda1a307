from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision.transforms.v2 import functional as reference

from vice.views import color

IMAGES = torch.rand(4, 3, 23, 31, generator=torch.Generator().manual_seed(0))
IMAGES[1, 1:] = IMAGES[1, :1]  # an image without colour
IMAGES[2] = (IMAGES[2] * 4).floor() / 4  # many equal channels
IMAGES[3, :, :10] = 0


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors_match_torchvision(name: str) -> None:
    for factors in ([0.0, 0.3, 1.0, 1.8], [1.8, 1.5, 0.1, 0.7]):
        actual = getattr(color, f"adjust_{name}")(IMAGES.clone(), torch.tensor(factors))
        for image, factor, result in zip(IMAGES, factors, actual, strict=True):
            expected = getattr(reference, f"adjust_{name}")(image, factor)
            torch.testing.assert_close(result, expected, atol=2e-6, rtol=0)


def test_hue_matches_torchvision() -> None:
    for shifts in ([0.0, 0.2, -0.2, 0.1], [-0.5, 0.5, 0.13, -0.07]):
        actual = color.adjust_hue(IMAGES.clone(), torch.tensor(shifts))
        for image, shift, result in zip(IMAGES, shifts, actual, strict=True):
            torch.testing.assert_close(
                result, reference.adjust_hue(image, shift), atol=5e-6, rtol=0
            )


def test_hue_turns_red_to_green_to_blue() -> None:
    red, green, blue = torch.eye(3).view(3, 1, 3, 1, 1)
    third = torch.tensor([1 / 3])
    torch.testing.assert_close(color.adjust_hue(red, third), green, atol=1e-6, rtol=0)
    torch.testing.assert_close(color.adjust_hue(green, third), blue, atol=1e-6, rtol=0)
    torch.testing.assert_close(color.adjust_hue(red, -third), blue, atol=1e-6, rtol=0)


def test_grey_matches_torchvision() -> None:
    expected = reference.rgb_to_grayscale(IMAGES)
    torch.testing.assert_close(color.to_gray(IMAGES), expected, atol=1e-6, rtol=0)


def test_blur_matches_torchvision_for_each_sigma() -> None:
    sigmas = [0.1, 0.7, 1.3, 2.0]
    actual = color.gaussian_blur(IMAGES, torch.tensor(sigmas))
    for image, sigma, result in zip(IMAGES, sigmas, actual, strict=True):
        expected = reference.gaussian_blur(image, [17, 17], [sigma, sigma])
        torch.testing.assert_close(result, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (3, 4), (8, 1)])
def test_blur_of_images_smaller_than_the_kernel(shape: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *shape, dtype=torch.float64)
    result = color.gaussian_blur(image, torch.tensor([1.5]))
    expected = ndimage.gaussian_filter(
        image.numpy(), 1.5, mode="mirror", radius=(8, 8), axes=(2, 3)
    )
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-7)


def test_inputs_are_left_alone() -> None:
    before = IMAGES.clone()
    half = torch.full((4,), 0.5)
    for name in ("brightness", "contrast", "saturation", "hue"):
        getattr(color, f"adjust_{name}")(IMAGES, half)
    color.gaussian_blur(IMAGES, half)
    color.to_gray(IMAGES)
    torch.testing.assert_close(IMAGES, before, atol=0, rtol=0)
