from __future__ import annotations

import numpy as np
import torch
from skimage.color import rgb2lab
from torchvision.transforms.functional import normalize

from vice.models.lab import LabEmbedder
from vice.models.load import is_spherical, load_extractor
from vice.normalize import IMAGENET_MEAN, IMAGENET_STD


def test_lab_equals_scikit_image():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (2, 40, 30, 3), dtype=np.uint8)
    rgb[0, :8, :8] = rng.integers(0, 12, (8, 8, 3))  # the linear part of both curves
    rgb[0, 0, 0], rgb[0, 0, 1] = 0, 255
    images = torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 255
    found = LabEmbedder()(normalize(images, IMAGENET_MEAN, IMAGENET_STD))
    expected = rgb2lab(rgb.astype(np.float64) / 255)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=6e-3)


def test_lab_has_the_interface_of_an_embedder():
    embedder = load_extractor("lab")
    assert (embedder.dim, embedder.stride) == (3, 1)
    assert embedder(torch.zeros(1, 3, 5, 7)).shape == (1, 3, 5, 7)
    assert not is_spherical(embedder) and is_spherical(torch.nn.Identity())
    assert not embedder.training
