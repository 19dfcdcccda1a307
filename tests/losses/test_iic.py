"""IIC's loss against numbers of the original functions, and against a direct sum in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.oracles import wave
from tests.helpers.processes import run_processes
from vice.losses import joint as joint_module
from vice.losses.iic import IICLoss, information_loss, warp
from vice.losses.joint import displaced_joint

FLIP = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
#: Of images and classes of both maps, and T; the last displaces by more than there is.
SIZES = (((3, 4, 7, 9), 4, 2), ((2, 3, 16, 16), 5, 3), ((1, 2, 6, 5), 2, 0), ((2, 3, 3, 2), 3, 4))


def direct(first: torch.Tensor, second: torch.Tensor, displacement: int) -> torch.Tensor:
    """The sum as it is written, a displacement at a time."""
    height, width = first.shape[2:]
    padded = torch.nn.functional.pad(first, (displacement,) * 4)
    lags = range(2 * displacement + 1)
    rows = [
        torch.stack(
            [
                torch.einsum("niyx,njyx->ij", padded[:, :, y : y + height, x : x + width], second)
                for x in lags
            ]
        )
        for y in lags
    ]
    return torch.stack(rows)


def random_maps(size: tuple[int, ...], others: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(size))
    shapes = (size, (size[0], others, *size[2:]))
    return [
        torch.rand(shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in shapes
    ]


@pytest.mark.parametrize("images_at_a_time", [1, 100])
@pytest.mark.parametrize(("size", "others", "displacement"), SIZES)
def test_the_joint_and_its_gradients_are_the_direct_sums(
    size, others, displacement, images_at_a_time, monkeypatch
):
    first, second = random_maps(size, others)
    monkeypatch.setattr(joint_module, "_SPECTRUM", 1 if images_at_a_time == 1 else 2**27)
    monkeypatch.setattr(joint_module, "_PRODUCTS", 1 if images_at_a_time == 1 else 2**12)
    monkeypatch.setattr(joint_module, "_CACHED", 2)
    found, expected = (way(first, second, displacement) for way in (displaced_joint, direct))
    most = float(expected.detach().abs().max())
    assert float((found - expected).detach().abs().max()) <= 1e-13 * most
    weights = torch.from_numpy(wave(tuple(expected.shape), 0.7, 0.2))
    for one, two in zip(
        torch.autograd.grad(found, (first, second), weights),
        torch.autograd.grad(expected, (first, second), weights),
        strict=True,
    ):
        assert float((one - two).abs().max()) <= 1e-13 * float(two.abs().max())


def test_half_precision_is_summed_in_full():
    first, second = random_maps((2, 3, 8, 8), 3)
    half = [each.detach().bfloat16() for each in (first, second)]
    with torch.autocast("cpu", torch.bfloat16):
        found = displaced_joint(*half, 2)
    assert found.dtype == torch.float32
    expected = direct(*(each.double() for each in half), 2)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)


def test_maps_that_do_not_go_together_are_refused():
    first, second = random_maps((2, 3, 8, 8), 3)
    for wrong in ((first, second[:1], 1), (first, second[..., 1:], 1), (first, second, -1)):
        with pytest.raises(ValueError):
            displaced_joint(*wrong)


def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores of both images, what counts, and the geometry: the second pair is mirrored."""
    one, two = (
        torch.from_numpy(3 * wave((2, 3, 4, 5), *numbers)).requires_grad_()
        for numbers in ((0.61, 0.3), (0.53, 1.0))
    )
    mask = torch.ones(2, 4, 5, dtype=torch.bool)
    mask[0, 1, 2] = mask[1, 3, 0] = mask[1, 3, 1] = False
    return one, two, mask, torch.stack([torch.eye(2), FLIP])


def loss_of(criterion: IICLoss, one: Any, two: Any, mask: Any, back: Any) -> torch.Tensor:
    value: torch.Tensor = criterion(torch.cat([one, two]), torch.zeros(()), mask, back, 0, 0)
    return value


@pytest.mark.parametrize(
    ("displacement", "weight", "collapsed", "expected"),
    [
        (1, 1.0, False, -0.04123401),
        (1, 1.5, False, -1.13191942),
        (1, 1.0, True, -0.00133475),
        (1, 1.5, True, -1.09576396),
        (0, 1.0, False, -0.03099069),
    ],
)
def test_the_loss_is_the_originals(displacement, weight, collapsed, expected):
    criterion = IICLoss([3, 3], [weight, 9.0], displacement=displacement, collapsed=collapsed)
    assert float(loss_of(criterion, *given()).detach()) == pytest.approx(expected, abs=6e-9)


def test_gradients_and_the_joint_are_the_originals():
    one, two, mask, back = given()
    loss_of(IICLoss([3, 3], displacement=1), one, two, mask, back).backward()
    assert float(one.grad.norm()) == pytest.approx(0.01645473, abs=6e-9)
    assert float(two.grad.norm()) == pytest.approx(0.00568138, abs=6e-9)
    maps = one.softmax(1) * mask[:, None], warp(two.softmax(1), back) * mask[:, None]
    expected = [
        [7.16568697, 3.35060935, 3.10981592],
        [4.20815975, 3.71317758, 2.39487219],
        [2.84184959, 7.05055159, 3.16527706],
    ]
    found = displaced_joint(*maps, 1)[1, 1].detach()
    np.testing.assert_allclose(found, expected, atol=6e-9)


def test_even_and_certain_classes_reach_the_minimum():
    classes = torch.arange(36).view(1, 6, 6) % 3
    certain = torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2).double()
    assert float(information_loss(displaced_joint(certain, certain, 0)).squeeze()) == pytest.approx(
        -math.log(3), abs=1e-12
    )
    criterion = IICLoss([3, 3], displacement=0)
    mask, back = torch.ones(1, 6, 6, dtype=torch.bool), torch.eye(2)[None]
    loss_of(criterion, 1e3 * certain, 1e3 * certain, mask, back)
    health = criterion.health
    assert health["learnt"] == pytest.approx(1) and health["minimum"] == pytest.approx(-math.log(3))
    assert health["clusters_in_use"] == pytest.approx(3)


def test_a_mirrored_second_image_is_brought_back():
    one, two, mask, _ = given()
    straight = loss_of(IICLoss([3, 3]), one, two, mask, torch.eye(2).expand(2, 2, 2))
    mirrored = loss_of(IICLoss([3, 3]), one, two.flip(-1), mask, FLIP.expand(2, 2, 2))
    assert float(mirrored.detach()) == pytest.approx(float(straight.detach()), abs=1e-12)


def test_maps_are_brought_to_the_size_of_the_mask_after_the_softmax():
    one, two, _, back = given()
    mask = torch.ones(2, 8, 10, dtype=torch.bool)
    found = loss_of(IICLoss([3, 3], displacement=2), one, two, mask, back)
    large = [
        torch.nn.functional.interpolate(each.softmax(1), (8, 10), mode="bilinear")
        for each in (one, two)
    ]
    expected = information_loss(direct(large[0], warp(large[1], back), 2)).mean()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)


def test_sub_heads_are_averaged():
    one, two, mask, back = given()
    more = [torch.cat([each, -2 * each], 1) for each in (one, two)]
    both = loss_of(IICLoss([3, 3], sub_heads=2, displacement=1), *more, mask, back)
    alone = [
        loss_of(IICLoss([3, 3], displacement=1), factor * one, factor * two, mask, back)
        for factor in (1, -2)
    ]
    assert float(both.detach()) == pytest.approx(float(sum(alone).detach()) / 2, abs=1e-12)


def test_a_batch_without_a_pixel_is_counted_and_moves_nothing():
    one, two, mask, back = given()
    criterion = IICLoss([3, 3], displacement=1)
    loss_of(criterion, one, two, mask, back)
    value = loss_of(criterion, one, two, torch.zeros_like(mask), back)
    value.backward()
    assert float(value.detach()) == 0
    assert not one.grad.any() and not two.grad.any()
    health = criterion.health
    assert (health["empty"], health["skipped_batches"], health["skipped_share"]) == (1, 1, 0.5)
    assert {"batches", "skipped"} <= set(criterion.state_dict())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_displacements_without_overlap_are_left_out(dtype):
    one, two, mask, back = given()
    narrow = torch.zeros_like(mask)
    narrow[:, 1, 1:3] = True
    criterion = IICLoss([3, 3], displacement=3)
    found = loss_of(criterion, one.to(dtype), two.to(dtype), narrow, back)
    maps = one.softmax(1) * narrow[:, None], warp(two.softmax(1), back) * narrow[:, None]
    tables = direct(*maps, 3).flatten(0, 1)
    known = tables[tables.sum((1, 2)) > 0]
    expected = float(information_loss(known).mean().detach())
    assert float(found.detach()) == pytest.approx(expected, abs=1e-5)
    assert criterion.health["displacements"] == len(known) == 3


def share_of_a_batch(rank: int, ranks: int) -> dict[str, Any]:
    own = slice(rank * 4 // ranks, (rank + 1) * 4 // ranks)
    one, two = (torch.from_numpy(wave((4, 3, 6, 6), *n)) for n in ((0.61, 0.3), (0.53, 1.0)))
    weight = torch.eye(3, dtype=torch.float64).requires_grad_()
    mask = torch.arange(4 * 36).view(4, 6, 6) % 5 > 0
    criterion = IICLoss([3, 3], displacement=2)
    scores = [torch.einsum("ij,njyx->niyx", weight, each[own]) for each in (one, two)]
    loss_of(criterion, *scores, mask[own], FLIP.expand(4, 2, 2)[own]).backward()
    return {"health": criterion.health, "gradient": weight.grad.numpy()}


def test_a_batch_over_four_ranks_is_the_same_batch():
    # Two are the contract's (tests/methods).
    (whole,) = run_processes(share_of_a_batch, 1)
    parts = run_processes(share_of_a_batch, 4)
    for part in parts:
        assert part["health"] == pytest.approx(whole["health"], abs=1e-7)
    mean = np.mean([part["gradient"] for part in parts], axis=0)
    np.testing.assert_allclose(mean, whole["gradient"], atol=1e-12)
    assert np.abs(whole["gradient"]).max() > 1e-5
