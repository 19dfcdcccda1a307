"""IIC's pairs: where they lie, what counts, and the way back from the second to the first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vice.losses.iic import warp
from vice.normalize import denormalize
from vice.views.pairs import PairOptions, affine_matrix, collate_pairs, draw_pair, finish_pairs
from vice.views.photometric import Photometric

PLAIN = Photometric(jitter_probability=0.0, grey_probability=0.0, blur_probability=0.0)
CPU = torch.device("cpu")


def ramps(height: int, width: int) -> np.ndarray:
    """An image whose values are bilinear in the place, so that warps of it are exact."""
    down, across = np.mgrid[:height, :width]
    return np.stack([3 * across, 3 * down, across + down], 2).astype(np.uint8)


def pairs(image: np.ndarray, count: int, counted: np.ndarray | None = None, **options: object):
    made = PairOptions(**{"image_scale": 1.0, "crop_side": 32, **options})
    return [draw_pair(image, counted, (3, 1, 7, n), made, PLAIN) for n in range(count)]


@pytest.mark.parametrize("affine", [False, True])
def test_the_second_image_is_brought_back_to_the_first(affine):
    drawn = pairs(ramps(60, 70), 12, affine=affine)
    assert 0 < sum(pair.mirror for pair in drawn) < 12
    first, second, counted, back = finish_pairs(collate_pairs(drawn), CPU, PLAIN, affine=affine)
    first, second = denormalize(first), denormalize(second)
    found = warp(second, back)
    # Near the border of either image there is black beside what is seen.
    inner = torch.zeros(32, 32, dtype=torch.bool)
    inner[4:-4, 4:-4] = True
    inside = warp(torch.ones_like(second)[:, :1], back)[:, 0] > 0.999
    where = (inside & inner)[:, None].expand_as(first)
    assert bool(counted.all()) and float(where.float().mean()) > 0.4
    assert float((found - first)[where].abs().max()) < 1.5 / 255
    if affine:
        assert float((second - first).abs().mean()) > 0.01


def test_the_affine_matrix_is_the_formula():
    turn, shear = np.radians([30 * (2 * 0.9 - 1), 10 * (2 * 0.3 - 1)])
    scale = 0.8 + 0.4 * 0.75
    expected = scale * np.array(
        [[np.cos(turn), -np.sin(turn + shear)], [np.sin(turn), np.cos(turn + shear)]]
    )
    np.testing.assert_allclose(affine_matrix([0.9, 0.3, 0.75]), expected, atol=1e-15)
    (pair,) = pairs(ramps(60, 70), 1, affine=True, mirror=False)
    back = collate_pairs([pair])["back"][0].double().numpy()
    np.testing.assert_allclose(back @ pair.matrix, np.eye(2), atol=1e-6)


def test_what_lies_beyond_a_small_image_is_black_and_does_not_count():
    image = ramps(21, 50) + np.uint8(1)
    (pair,) = pairs(image, 1)
    # Eleven rows are missing, five of them above.
    assert pair.counted.sum(0).tolist() == [21] * 32
    assert pair.counted[5].all() and not pair.counted[4].any()
    assert not pair.pixels[~pair.counted].any() and pair.pixels[pair.counted].all()


def test_labels_are_scaled_and_cut_with_the_image():
    image = ramps(80, 80)
    image[20:50, 30:70] = 255
    counted = (image == 255).all(2)
    drawn = pairs(image, 5, counted, image_scale=0.5, scales=(0.8, 1.2), crop_side=24)
    shown = np.concatenate([pair.counted.ravel() for pair in drawn])
    bright = np.concatenate([(pair.pixels > 200).all(2).ravel() for pair in drawn])
    assert 0.1 < shown.mean() < 0.9 and (shown == bright).mean() > 0.93


def test_a_key_gives_the_same_pair_and_others_give_others():
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    options = PairOptions(image_scale=1.0, crop_side=32, affine=True)
    colors = Photometric(jitter_probability=1.0)
    keys = [(0, 0, 0, 0), (0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    made = [draw_pair(image, None, key, options, colors) for key in keys]
    assert np.array_equal(made[0].pixels, made[1].pixels)
    assert np.array_equal(made[0].matrix, made[1].matrix)
    assert made[0].colors.hue == made[1].colors.hue
    for other in made[2:]:
        assert not np.array_equal(made[0].matrix, other.matrix)
        assert made[0].colors.hue != other.colors.hue
