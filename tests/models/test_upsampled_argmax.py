"""Sorting channels out changes no pixel of the argmax of upsampled scores."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vice.models import cell_argmax, upsampled_argmax
from vice.models.upsampled_argmax import argmax_upsampled
from vice.models.upsampling import RowsBetween, argmax_all, columns_between

_GENERATOR = torch.Generator().manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, generator=_GENERATOR)


def smooth(channels, height, width):
    """Noise that is coarser than the map: few channels can win at any place."""
    noise = drawn(1, channels, max(2, height // 4), max(2, width // 4))
    return F.interpolate(noise, (height, width), mode="bicubic")


def some_of_each_kind(channels, height, width):
    """Maps by name; all but the first two hold ties or what looks like ties."""
    lattice = torch.randint(-2, 3, (1, channels, height, width), generator=_GENERATOR).float()
    twins = smooth(channels, height, width)
    twins[:, channels // 2 :] = twins[:, : channels - channels // 2].clone()
    one_ulp = smooth(channels, height, width)
    one_ulp[:, 1::2] = torch.nextafter(one_ulp[:, : channels // 2 * 2 : 2], torch.tensor(9.0))[
        :, : one_ulp[:, 1::2].shape[1]
    ]
    return {
        "noise": drawn(1, channels, height, width),
        "smooth": smooth(channels, height, width),
        "far from zero": 1e4 + smooth(channels, height, width),
        "lattice": lattice,
        "twins": twins,
        "last place": one_ulp,
        "constant": torch.full((1, channels, height, width), 0.3),
        "zero": torch.zeros(1, channels, height, width),
        "tiny": smooth(channels, height, width) * 1e-36,
        "huge": smooth(channels, height, width) * 1e37,
        "one place apart": F.pad(drawn(1, channels, 1, 1), (width - 1, 0, height - 1, 0)),
    }


def upsampled_whole(scores, size):
    rows = RowsBetween.of(torch.arange(size[0]), scores, size[0])
    return argmax_all(scores, rows, size[1], 2**21)


SIZES = [((7, 10), (53, 81)), ((5, 3), (21, 14)), ((2, 2), (33, 17)), ((9, 6), (9, 40))]


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 37, 256, 512])
@pytest.mark.parametrize("sizes", SIZES)
def test_every_pixel_is_that_of_upsampling_all(channels, sizes):
    small, large = sizes
    for name, scores in some_of_each_kind(channels, *small).items():
        for layout in (torch.contiguous_format, torch.channels_last)[: 1 + (channels < 256)]:
            given = scores.contiguous(memory_format=layout)
            assert torch.equal(argmax_upsampled(given, large), upsampled_whole(given, large)), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    for name, scores in some_of_each_kind(24, 6, 9).items():
        given = scores.to(dtype)
        if given.isfinite().all():
            found = argmax_upsampled(given, (25, 35))
            assert torch.equal(found, upsampled_whole(given, (25, 35))), name


def test_random_sizes_and_bands(monkeypatch):
    """Bands of few rows, and of few cells at a time."""
    monkeypatch.setattr(upsampled_argmax, "_BAND", 2**14)
    monkeypatch.setattr(cell_argmax, "_CACHED", 2**12)
    for _ in range(60):
        channels, height, width = (
            int(torch.randint(low, high, (1,), generator=_GENERATOR))
            for low, high in ((8, 90), (2, 14), (2, 14))
        )
        factors = 1 + 5 * torch.rand(2, generator=_GENERATOR)
        size = int(height * factors[0]), int(width * factors[1])
        scores = torch.cat([smooth(channels, height, width), drawn(1, channels, height, width)])
        assert torch.equal(argmax_upsampled(scores, size), upsampled_whole(scores, size))


def count_rows(monkeypatch):
    """Rows of which every channel was upsampled."""
    rows = []

    def watched(scores, between, width, max_bytes):
        rows.append(len(between))
        return argmax_all(scores, between, width, max_bytes)

    monkeypatch.setattr(upsampled_argmax, "argmax_all", watched)
    return rows


def test_few_channels_are_upsampled_where_few_can_win(monkeypatch):
    rows = count_rows(monkeypatch)
    argmax_upsampled(smooth(256, 40, 60), (160, 240))
    assert sum(rows) < 16
    rows.clear()
    # No channel can be told from another: all are upsampled, in one go.
    argmax_upsampled(torch.zeros(1, 256, 40, 60), (160, 240))
    assert rows == [160]


def test_a_channel_that_wins_between_the_corners_alone_is_found():
    """No other test would see it: at every cell of the map it is second."""
    scores = torch.zeros(1, 8, 2, 2)
    scores[0, 1] = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    scores[0, 2] = torch.tensor([[-1.0, 1.0], [-1.0, 1.0]])
    scores[0, 3] = 0.5
    found = argmax_upsampled(scores, (8, 32))
    assert torch.equal(found, upsampled_whole(scores, (8, 32)))
    assert {1, 2, 3} == set(found.unique().tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_those_of_upsampling_to_the_bit(dtype):
    for columns in range(2, 40):
        for width in range(columns, 5 * columns, 7):
            left, weights = columns_between(torch.zeros(1, 8, 2, columns, dtype=dtype), width)
            values = torch.randn(columns, generator=_GENERATOR, dtype=dtype)
            found = F.interpolate(values[None, None, None], (1, width), mode="bilinear")[0, 0, 0]
            sums = values[left] * weights[:, 0] + values[left + 1] * weights[:, 1]
            torch.testing.assert_close(sums, found, rtol=0, atol=4 * torch.finfo(dtype).eps)
