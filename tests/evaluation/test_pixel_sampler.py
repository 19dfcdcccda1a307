from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers.processes import run_processes
from vice.errors import UserError
from vice.evaluation.pixel_sampler import PixelSampler, sample_bilinear


@pytest.mark.parametrize("size", [(9, 7), (33, 26), (36, 28), (5, 30), (1, 1)])
def test_single_pixels_equal_interpolate(size):
    embedding = torch.randn(6, 9, 7, dtype=torch.float64)
    whole = F.interpolate(embedding[None], size, mode="bilinear", align_corners=False)[0]
    pixels = torch.arange(size[0] * size[1])
    torch.testing.assert_close(sample_bilinear(embedding, size, pixels), whole.flatten(1).T)


def number_images(sizes):
    """Images whose only channel counts pixels over the whole set, so that a sample tells where."""
    first = np.concatenate([[0], np.cumsum([h * w for h, w in sizes])])
    return [
        torch.arange(first[i], first[i + 1], dtype=torch.float64).view(1, h, w)
        for i, (h, w) in enumerate(sizes)
    ]


def sample(order, images, budget, seed=0):
    sampler = PixelSampler(budget, seed)
    for i in order:
        sampler.add(images[i], tuple(images[i].shape[1:]), i)
    return sampler


def test_sample_is_uniform_over_pixels_not_over_images():
    images = number_images([(10, 10), (40, 40), (10, 30)])
    hits = np.zeros(2000)
    for seed in range(300):
        found = sample(range(3), images, 200, seed).vectors().flatten().round().long().numpy()
        assert len(np.unique(found)) == 200
        hits[found] += 1
    share = np.array([hits[:100].sum(), hits[100:1700].sum(), hits[1700:].sum()]) / hits.sum()
    np.testing.assert_allclose(share, [0.05, 0.8, 0.15], atol=0.01)
    assert hits.std() < 1.2 * np.sqrt(300 * 0.1 * 0.9)


def test_positions_are_the_places_of_the_pixels():
    """Two channels that say where a pixel is, at the size of the image."""
    sizes = [(5, 8), (6, 3)]
    samplers = {flag: PixelSampler(30, 3, positions=flag) for flag in (False, True)}
    for index, (height, width) in enumerate(sizes):
        y, x = np.mgrid[:height, :width]
        places = torch.from_numpy(np.stack([(x + 0.5) / width, (y + 0.5) / height]))
        labels = torch.from_numpy((x + y) % 3)
        for sampler in samplers.values():
            sampler.add(places, (height, width), index, labels)
    found, without = samplers[True].vectors(), samplers[False].vectors()
    torch.testing.assert_close(found[:, :2], found[:, 2:4], atol=1e-6, rtol=0)
    assert torch.equal(found[:, [0, 1, 4]], without) and len(found) == 30


def test_sample_depends_on_the_seed_alone():
    images = number_images([(30, 20), (25, 25), (40, 40), (3, 5)])
    whole = sample([0, 1, 2, 3], images, 150)
    assert whole.seen == 600 + 625 + 1600 + 15
    turned = sample([2, 0, 3, 1], images, 150)
    halves = [sample([0, 2], images, 150), sample([1, 3], images, 150)]
    halves[0].merge(halves[1])
    assert torch.equal(whole.vectors(), turned.vectors())
    assert torch.equal(whole.vectors(), halves[0].vectors())
    assert not torch.equal(whole.vectors(), sample(range(4), images, 150, seed=1).vectors())


def test_memory_stays_within_the_budget():
    images = number_images([(20, 20)] * 50)
    sampler = PixelSampler(300)
    for i, image in enumerate(images):
        sampler.add(image, (20, 20), i)
        assert sum(map(len, sampler._vectors)) < 2 * 300 + 400
    assert sampler.vectors().shape == (300, 1)


def test_few_pixels_are_all_kept_and_none_is_an_error():
    images = number_images([(3, 4)])
    found = sample([0], images, 99).vectors().flatten()
    torch.testing.assert_close(found.sort().values, torch.arange(12.0, dtype=torch.float64))
    with pytest.raises(UserError, match="no images"):
        PixelSampler(5).vectors()
    with pytest.raises(UserError, match="at least 1"):
        PixelSampler(0)


def test_labelled_pixels_alone_come_with_their_class():
    images, rng = number_images([(30, 20), (25, 25), (4, 4)]), np.random.default_rng(0)
    labels = [torch.from_numpy(rng.choice([0, 3, 255], i.shape[1:]).astype("u1")) for i in images]
    labels[2][:] = 255
    sampler, every = PixelSampler(150), PixelSampler(10**4)
    for i in range(3):
        for one in (sampler, every):
            one.add(images[i], tuple(images[i].shape[1:]), i, labels[i])
    classes = torch.cat([label.flatten() for label in labels])
    assert every.seen == sampler.seen == int((classes != 255).sum())
    for found in (sampler.vectors(), every.vectors()):
        place, label = found[:, 0].round().long(), found[:, 1]
        assert torch.equal(label, classes[place].double()) and not (label == 255).any()
        assert len(place.unique()) == len(place)
    # They are those that a sample of all pixels would have, in its order.
    both = sample(range(3), images, 10**4).vectors()[:, 0].round().long()
    assert torch.equal(both[classes[both] != 255][:150], sampler.vectors()[:, 0].round().long())
    empty = PixelSampler(5)
    empty.add(images[2], (4, 4), 2, labels[2])
    with pytest.raises(UserError, match="none with a labelled pixel"):
        empty.vectors()


def gathered(rank, ranks, sizes):
    images, found = number_images(sizes), {}
    for budget in (40, 10**4):
        sampler = sample(range(rank, len(images), ranks), images, budget)
        sampler.gather()
        if rank == 0:
            found[f"vectors of {budget}"], found[f"seen of {budget}"] = (
                sampler.vectors(),
                sampler.seen,
            )
    return found


def test_ranks_gather_the_sample_of_one_process_even_without_images():
    sizes = [(30, 20), (5, 7)]
    (expected,) = run_processes(gathered, 1, sizes)
    found, *_ = run_processes(gathered, 3, sizes)
    assert len(expected["vectors of 40"]) == 40 and len(expected["vectors of 10000"]) == 635
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
