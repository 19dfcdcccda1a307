"""What the photometric change makes of a picture, against torchvision's own pipeline.

Two samples of several hundred independent draws each, compared by statistics of the pictures that
come out, with the Kolmogorov-Smirnov test.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from vice.experiments.benchmark.data import texture
from vice.normalize import denormalize, normalize_bytes
from vice.views.photometric import Photometric, PhotometricParams

DRAWS = 500
ALPHA = 1e-3


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    """Coloured, with edges, and dark enough that not every change of brightness saturates."""
    image = torch.from_numpy(texture(48, 40)).permute(2, 0, 1).float()
    tint = torch.tensor([0.9, 0.6, 0.35]).view(3, 1, 1)
    return (image * tint).round().to(torch.uint8)


def on_device(change: Photometric, picture: torch.Tensor, params: PhotometricParams):
    return change(picture.expand(DRAWS, -1, -1, -1), params)


def in_worker(change: Photometric, picture: torch.Tensor, params: PhotometricParams):
    pictures = np.stack([picture.permute(1, 2, 0).numpy()] * DRAWS)
    return normalize_bytes(torch.from_numpy(change.change_bytes(pictures, params)))


@pytest.fixture(scope="module", params=[on_device, in_worker])
def ours(request, picture: torch.Tensor):
    def draw(**options: float) -> torch.Tensor:
        change = Photometric(**options)
        params = change.draw(np.random.default_rng(0), DRAWS)
        return denormalize(request.param(change, picture, params))

    return draw


@pytest.fixture(scope="module")
def theirs(picture: torch.Tensor) -> torch.Tensor:
    """SimCLR's pipeline: jitter 0.8, 0.8, 0.8, 0.2; grey; blur of 0.1 to 2 pixels."""
    change = v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(17, (0.1, 2.0))], p=0.5),
        ]
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.stack([change(picture.float() / 255) for _ in range(DRAWS)])


def hue(images: torch.Tensor) -> torch.Tensor:
    """Direction of the mean colour around the grey axis, radians."""
    red, green, blue = images.mean((2, 3)).unbind(1)
    return torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue)


def saturation(images: torch.Tensor) -> torch.Tensor:
    """Relative to the largest channel, so that brightness does not hide it."""
    largest = images.amax(1)
    return ((largest - images.amin(1)) / largest.clamp(min=1e-3)).mean((1, 2))


def sharpness(images: torch.Tensor) -> torch.Tensor:
    """Differences between neighbours, relative to all differences: falls with blur alone."""
    gray = images.mean(1)
    steps = (gray[:, :, 1:] - gray[:, :, :-1]).square().mean((1, 2)).sqrt()
    return steps / gray.flatten(1).std(1).clamp(min=1e-4)


STATISTICS = {
    "mean": lambda images: images.mean((1, 2, 3)),
    "contrast": lambda images: images.mean(1).flatten(1).std(1) / images.mean((1, 2, 3)),
    "saturation": saturation,
    "sharpness": sharpness,
}


def colored(images: torch.Tensor) -> torch.Tensor:
    """Which pictures have a colour left."""
    return saturation(images) > 1e-3


def p_value(first: torch.Tensor, second: torch.Tensor) -> float:
    """Of the two-sample test; a fifth of the pictures is unchanged but for rounding."""
    samples = [(1e4 * values).round().numpy() for values in (first, second)]
    return float(stats.ks_2samp(*samples).pvalue)


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_are_distributed_as_torchvisions(ours, theirs, name):
    measure = STATISTICS[name]
    assert p_value(measure(ours()), measure(theirs)) > ALPHA


def test_hue_is_distributed_as_torchvisions(picture, ours, theirs):
    mine = ours()
    first, second = (hue(images[colored(images)]) for images in (mine, theirs))
    # Angles around the tint's, cut on the opposite side.
    middle = hue((picture / 255)[None])
    turned = [torch.remainder(angle - middle + torch.pi, 2 * torch.pi) for angle in (first, second)]
    assert p_value(*turned) > ALPHA


def test_as_many_pictures_lose_their_colour(ours, theirs):
    gray = [int((~colored(images)).sum()) for images in (ours(), theirs)]
    table = [[count, DRAWS - count] for count in gray]
    assert stats.fisher_exact(table).pvalue > ALPHA and min(gray) > 0.1 * DRAWS


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mean", {"brightness": 0.4}),
        ("contrast", {"contrast": 0.0}),
        ("saturation", {"strength": 0.5}),
        ("sharpness", {"blur_probability": 0.2}),
    ],
)
def test_the_comparison_notices_another_distribution(ours, theirs, name, options):
    measure = STATISTICS[name]
    assert p_value(measure(ours(**options)), measure(theirs)) < ALPHA
