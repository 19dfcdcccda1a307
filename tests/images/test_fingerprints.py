"""Flat images, exact and near duplicates are counted, and different pictures are not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import content
from vice.images.fingerprints import (
    MOST_BITS,
    MOST_LEVELS,
    count_duplicates,
    count_shared,
    fingerprint,
    near_duplicates,
)


def photos(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [content.photo(rng) for _ in range(count)]


def prints(images):
    return [fingerprint(image) for image in images]


def test_different_pictures_are_different() -> None:
    found = count_duplicates(prints(photos(300)))
    assert found.describe() == {
        "images": 300,
        "flat": 0,
        "exact_duplicates": 0,
        "near_duplicates": 0,
    }
    assert found.different == 300
    assert count_shared(prints(photos(100, 1)), prints(photos(100, 2))) == (0, 0)


@pytest.mark.parametrize("change", content.NEAR)
def test_the_same_picture_in_other_clothes(change: str) -> None:
    originals = photos(40)
    changed = [content.NEAR[change](image) for image in originals]
    same, near = count_shared(prints(changed), prints(originals))
    assert same == 0
    assert near >= 36
    both = count_duplicates(prints([*originals, *changed]))
    assert both.repeated == 0
    assert both.near >= 72


def test_equal_pixels_are_equal_whatever_their_memory() -> None:
    images = photos(3)
    copies = [image[:, ::-1][:, ::-1] for image in images]
    assert count_duplicates(prints([*images, *copies, images[0]])).repeated == 4
    # The same bytes in another shape are another picture.
    turned = images[0].reshape(160, 120, 3)
    assert fingerprint(turned).exact != fingerprint(images[0]).exact


@pytest.mark.parametrize("make", [content.flat, content.noisy_flat])
def test_flat_images_are_flat_and_nothing_else(make) -> None:
    rng = np.random.default_rng(0)
    flats = prints([make(rng) for _ in range(30)])
    assert all(one.flat for one in flats)
    assert count_duplicates(flats).near == 0
    assert count_shared(flats, prints([make(rng) for _ in range(30)])) == (0, 0)


@pytest.mark.parametrize("make", [content.gradient, content.checkers, content.two_valued])
def test_simple_pictures_are_not_flat(make) -> None:
    rng = np.random.default_rng(0)
    assert not any(fingerprint(make(rng)).flat for _ in range(30))


def test_shapes_of_any_size() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 700), (700, 1), (3, 5), (2000, 7)):
        one = fingerprint(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        assert (len(one.bits), len(one.thumbnail)) == (16, 192)


def test_near_duplicates_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    originals = photos(60)
    kinds = list(content.NEAR.values())
    drawn = [kinds[rng.integers(len(kinds))](one) for one in originals[:30]]
    summaries = prints([*originals, *drawn])
    bits = np.stack([np.unpackbits(np.frombuffer(one.bits, np.uint8)) for one in summaries])
    thumbs = np.stack([np.frombuffer(one.thumbnail, np.uint8).astype(int) for one in summaries])
    grids = bits.reshape(-1, 2, 8, 8)[..., ::-1].copy()
    grids[:, 0] = 1 - grids[:, 0]
    turned = thumbs.reshape(-1, 8, 8, 3)[:, :, ::-1].reshape(len(thumbs), -1)
    wanted = np.zeros(len(summaries), bool)
    for i in range(len(summaries)):
        for other, thumb in ((bits, thumbs), (grids.reshape(len(bits), -1), turned)):
            close = (bits[i] != other).sum(1) <= MOST_BITS
            close &= np.abs(thumbs[i] - thumb).mean(1) <= MOST_LEVELS
            close[i] = False
            wanted[i] |= close.any()
            wanted |= close
    found = near_duplicates(summaries)
    assert not (found & ~wanted).any()
    # Candidates agree in 16 bits of one of eight parts; few pairs differ in all of them.
    assert found.sum() >= 0.95 * wanted.sum() > 40


def test_many_copies_of_one_picture_end_soon() -> None:
    one = fingerprint(photos(1)[0])
    many = [type(one)(number, one.bits, one.thumbnail, one.deviation) for number in range(3000)]
    assert count_duplicates(many).near == 3000
