"""Views by a key: the numbers of the original code, the same in every pass, and their geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as pictures

from vice.labels import IGNORE
from vice.views.feature_crop import crop_resize
from vice.views.keyed import (
    Geometry,
    KeyedOptions,
    Operation,
    blur_radius,
    change_colors,
    order_of,
    square,
    uniform,
)


def test_the_radius_of_the_blur_is_the_originals():
    expected = [1.8, 1.42, 0.85, 0.28, 0.0962]
    found = [blur_radius(u) for u in (0, 0.1, 0.25, 0.4, 0.499)]
    assert found == pytest.approx(expected) and blur_radius(0.5) is None
    every = [blur_radius(u) for u in np.linspace(0, 0.5, 10_001)[:-1]]
    # Of those that are blurred.
    assert np.mean(every) == pytest.approx(0.85, abs=0.01)
    assert np.mean(np.array(every) < 0.1) == pytest.approx(0.106, abs=0.005)


def test_draws_depend_on_the_key_alone_and_differ_with_every_part_of_it():
    base = (3, 2, 7, 1, Operation.HUE)
    again = [uniform(*base, 5) for _ in range(2)]
    assert np.array_equal(*again) and np.array_equal(uniform(*base, 2), again[0][:2])
    others = [(4, *base[1:]), (3, 3, *base[2:]), (3, 2, 8, *base[3:]), (*base[:3], 0, base[4])]
    others.append((*base[:4], Operation.BLUR))
    everything = np.concatenate([uniform(*key, 5) for key in [base, *others]])
    assert len(set(everything.tolist())) == 30
    # Images of an epoch, views and operations share no numbers, however many are drawn.
    grid = [uniform(0, 0, i, v, o, 9) for i in range(9) for v in (0, 1) for o in Operation]
    assert len(np.unique(np.concatenate(grid))) == 9 * 2 * len(Operation) * 9
    many = np.concatenate([uniform(1, 0, i, 0, Operation.GEOMETRY, 4) for i in range(2000)])
    assert many.mean() == pytest.approx(0.5, abs=0.02) and many.var() == pytest.approx(
        1 / 12, abs=0.01
    )
    order = order_of(0, 1, 50)
    assert sorted(order.tolist()) == list(range(50)) and not np.array_equal(
        order, order_of(0, 2, 50)
    )


def test_colors_are_changed_in_order_and_each_by_itself():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    options, changed, grey = KeyedOptions(), 0, 0
    for number in range(40):
        found = change_colors(image, 0, 0, number, 0, options)
        expected = image
        draws = {o: uniform(0, 0, number, 0, o, 2) for o in Operation}
        for operation, change in (
            (Operation.BRIGHTNESS, pictures.adjust_brightness),
            (Operation.CONTRAST, pictures.adjust_contrast),
            (Operation.SATURATION, pictures.adjust_saturation),
            (Operation.HUE, pictures.adjust_hue),
        ):
            u, f = draws[operation]
            low, high = (-0.1, 0.1) if operation is Operation.HUE else (0.7, 1.3)
            if u < 0.8:
                expected = change(expected, low + (high - low) * f)
        sharp = np.abs(np.asarray(found).astype(int) - np.asarray(expected)).max() == 0
        # A radius next to nothing changes nothing either.
        assert sharp or draws[Operation.BLUR][0] < 0.5
        changed += not sharp
        other = np.asarray(change_colors(image, 0, 0, number, 0, KeyedOptions(grey=True)))
        grey += bool((other == other[..., :1]).all())
    assert 10 < changed < 30 and 2 <= grey <= 16


def test_geometry_is_half_to_all_of_a_side_and_exact_grids_agree():
    options = [KeyedOptions(crop_grid=grid) for grid in ("original", "exact")]
    shares, apart = [], []
    for number in range(300):
        original, exact = (Geometry.draw(0, 0, number, each) for each in options)
        shares.append(original.box[2] / 640)
        assert [8 * value for value in exact.cells] == list(exact.box)
        assert original.cells == exact.cells and original.flip == exact.flip
        apart.append(np.abs(np.array(original.box) / 8 - original.cells).max())
        assert 0 <= original.box[0] <= 640 - original.box[2] and original.cells[2] >= 40
    assert 0.5 <= min(shares) < 0.52 and 0.98 < max(shares) <= 1
    # How far the roundings of the original are apart, in cells.
    assert np.mean(apart) > 0.2 and max(apart) < 1.5


@pytest.mark.parametrize("flip", [False, True])
def test_labels_go_back_to_where_they_were_cut_from(flip):
    geometry = Geometry((0, 0, 0), (2, 3, 5), flip)
    whole = torch.arange(100.0).view(1, 1, 10, 10)
    cut = crop_resize(whole, torch.tensor([geometry.cells]), torch.tensor([flip]), 10)
    back = geometry.on_base(cut[0, 0].round().to(torch.uint8).numpy(), IGNORE)
    inside = back[2:7, 3:8].astype(int) - whole[0, 0, 2:7, 3:8].int().numpy()
    # Cells of twice the number lie a quarter of a cell beside.
    assert np.abs(inside % 10).max() <= 10 and np.abs(inside).max() <= 3
    assert (back == IGNORE).sum() == 100 - 25


def test_the_square_is_the_middle_of_the_resized_image():
    image = np.zeros((30, 60, 3), np.uint8)
    image[:, 15:45] = 200
    found = np.asarray(square(image, 60))
    assert found.shape == (60, 60, 3) and found.min() >= 150
