"""Crops of a batch of maps in one sampling against slicing, resizing and flipping each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers.oracles import wave
from vice.views.feature_crop import crop_box, crop_resize


def one_by_one(maps, boxes, flips, size):
    found = []
    for image, (row, column, side) in enumerate(boxes):
        cut = maps[image : image + 1, :, row : row + side, column : column + side]
        cut = F.interpolate(cut, (size, size), mode="bilinear", align_corners=False)
        found.append(cut.flip(3) if flips[image] else cut)
    return torch.cat(found)


def test_boxes_and_a_crop_are_the_originals():
    assert crop_box(640, 0.6347, 0.3, 0.8) == (70, 187, 406)
    assert crop_box(80, 0.6347, 0.3, 0.8) == (9, 24, 50)
    maps = torch.from_numpy(wave((1, 1, 8, 8), 0.7, 0.1))
    box = torch.tensor([crop_box(8, 0.63, 0.3, 0.8)])
    cut = crop_resize(maps, box, torch.tensor([True]), 4)[0, 0]
    expected = [
        [-0.29102351, 0.49232133, 0.91276647, 0.69347323],
        [0.73338799, 0.00559878, -0.70655336, -0.93415763],
    ]
    np.testing.assert_allclose(cut[[0, 3]], expected, atol=5e-9)


@pytest.mark.parametrize("size", [3, 8, 20])
def test_every_box_with_and_without_a_flip_is_slice_resize_and_flip(size):
    boxes = [
        (row, column, side)
        for side in range(1, 9)
        for row in range(0, 9 - side, 2)
        for column in range(0, 9 - side, 3)
    ]
    flips = [number % 2 == 0 for number in range(len(boxes))]
    maps = torch.randn(len(boxes), 2, 8, 8, dtype=torch.float64, requires_grad=True)
    cut = crop_resize(maps, torch.tensor(boxes), torch.tensor(flips), size)
    expected = one_by_one(maps, boxes, flips, size)
    torch.testing.assert_close(cut, expected, rtol=0, atol=1e-13)
    weights = torch.randn_like(cut)
    gradients = [torch.autograd.grad((x * weights).sum(), maps)[0] for x in (cut, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
