from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vice.errors import UserError
from vice.superpixels import grid
from vice.views import NoMutualRegions, Views, ViewSampler


def ramp(height: int, width: int) -> np.ndarray:
    """Image whose red and green channels are the coordinates, scaled to 0..255."""
    y = np.linspace(0, 255, height)[:, None].repeat(width, axis=1)
    x = np.linspace(0, 255, width)[None].repeat(height, axis=0)
    return np.rint(np.stack([x, y, np.zeros_like(x)], axis=-1)).astype(np.uint8)


def coordinates(views: Views, view: int) -> tuple[np.ndarray, np.ndarray]:
    """Image coordinates (pixel units, borders at 0 and H or W) of a view's pixel centres."""
    x0, y0, x1, y1 = views.boxes[view].astype(float)
    height, width = views.regions.shape[1:]
    x = x0 + (np.arange(width) + 0.5) * (x1 - x0) / width
    y = y0 + (np.arange(height) + 0.5) * (y1 - y0) / height
    return y, x[::-1] if views.flipped[view] else x


def labels_of(views: Views, regions: np.ndarray) -> np.ndarray:
    """Region map of each view as nearest neighbour gives it, before anything is dropped."""
    maps = []
    for view in range(len(views.boxes)):
        y, x = coordinates(views, view)
        rows, columns = np.floor(y + 1e-9).astype(int), np.floor(x + 1e-9).astype(int)
        maps.append(regions[np.ix_(rows, columns)])
    return np.stack(maps)


def check_views(views: Views, regions: np.ndarray) -> set[int]:
    """Holds the views against sets computed one view at a time; returns the mutual ids."""
    labels = labels_of(views, regions)
    clear = []
    for label, noise in zip(labels, views.noise, strict=True):
        masked = set(label[noise].tolist())
        clear.append(set(label[~noise].tolist()) - {-1})
        assert not masked & clear[-1], "a superpixel is masked whole or not at all"
        assert -1 not in masked
    mutual = set.intersection(*clear)
    assert mutual
    expected = np.where(np.isin(labels, list(mutual)) & ~views.noise, labels, -1)
    np.testing.assert_array_equal(views.regions, expected)
    return mutual


def voronoi(height: int, width: int, count: int, rng: np.random.Generator) -> np.ndarray:
    points = rng.uniform(0, 1, (count, 2)) * (height, width)
    y, x = np.mgrid[:height, :width]
    distance = (y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2
    return distance.argmin(-1).astype(np.int32)


@settings(deadline=None, max_examples=80)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    count=st.integers(1, 40),
    num_views=st.integers(1, 5),
    mask_intensity=st.sampled_from([0.0, 0.25, 1.0]),
    preserve_ratio=st.sampled_from([0.0, 0.25, 1.0]),
    resolution=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_views_of_any_image(
    shape: tuple[int, int],
    size: tuple[int, int],
    count: int,
    num_views: int,
    mask_intensity: float,
    preserve_ratio: float,
    resolution: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    regions = voronoi(*shape, count, rng)
    regions[rng.random(shape) < 0.1] = -1
    sampler = ViewSampler(
        num_views=num_views,
        size=size,
        mask_intensity=mask_intensity,
        preserve_ratio=preserve_ratio,
        resolution_probability=resolution,
        max_tries=3,
    )
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    try:
        views = sampler(image, regions, rng)
    except NoMutualRegions:
        return
    assert views.images.shape == (num_views, *size, 3)
    assert views.images.dtype == np.uint8
    assert views.regions.dtype == np.int32
    assert views.noise.dtype == bool
    assert views.flipped.shape == (num_views,)
    assert views.flipped.dtype == bool
    assert 1 <= views.tries <= 3
    assert (views.boxes[:, :2] >= 0).all()
    assert (views.boxes[:, 2:] <= shape[::-1]).all()
    center = (views.boxes[0, :2] + views.boxes[0, 2:]) // 2
    assert ((views.boxes[:, :2] <= center) & (center < views.boxes[:, 2:])).all()
    check_views(views, regions)
    if mask_intensity == 0:
        assert not views.noise.any()


def test_image_and_maps_move_together() -> None:
    image = ramp(300, 420)
    regions = grid(300, 420, 12)
    flips = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        views = ViewSampler(size=(80, 120))(image, regions, rng)
        check_views(views, regions)
        for view in range(5):
            y, x = coordinates(views, view)
            red = (x - 0.5)[None] * 255 / 419
            green = (y - 0.5)[:, None] * 255 / 299
            inner = views.images[view, 3:-3, 3:-3].astype(float)
            assert np.abs(inner[..., 0] - red[:, 3:-3]).max() < 1.5
            assert np.abs(inner[..., 1] - green[3:-3]).max() < 1.5
        flips += int(views.flipped.sum())
    assert 15 < flips < 45


def test_flips_always_and_never() -> None:
    image, regions = ramp(100, 100), grid(100, 100, 10)
    for probability in (0.0, 1.0):
        views = ViewSampler(size=40, flip_probability=probability)(
            image, regions, np.random.default_rng(0)
        )
        rising = np.diff(views.images[:, 20, 5:-5, 0].astype(int), axis=1).sum(axis=1) > 0
        assert (rising == (probability == 0)).all()
        assert (views.flipped == (probability == 1)).all()
        assert views.images.flags.c_contiguous


def test_same_seed_same_views_whatever_the_global_state() -> None:
    image, regions = ramp(120, 150), grid(120, 150, 9)
    sampler = ViewSampler(size=64)
    np.random.seed(1)
    first = sampler(image, regions, np.random.default_rng(7))
    np.random.seed(2)
    sampler(image, regions, np.random.default_rng(8))
    again = sampler(image, regions, np.random.default_rng(7))
    other = sampler(image, regions, np.random.default_rng(8))
    for name in ("images", "regions", "noise", "boxes", "flipped"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.boxes != other.boxes).any()


def test_inputs_are_left_alone() -> None:
    image, regions = ramp(60, 70), grid(60, 70, 9)
    copies = image.copy(), regions.copy()
    image.setflags(write=False)
    regions.setflags(write=False)
    ViewSampler(size=32)(image, regions, np.random.default_rng(0))
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(regions, copies[1])


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 3), (3, 2), (1, 2000), (5, 5)])
def test_tiny_and_thin_images(shape: tuple[int, int]) -> None:
    regions = np.zeros(shape, np.int32)
    views = ViewSampler(size=32, mask_intensity=0)(ramp(*shape), regions, np.random.default_rng(0))
    assert (views.regions == 0).all()
    assert views.images.shape == (5, 32, 32, 3)


def test_a_single_region_survives_its_masking() -> None:
    # One mutual region: rounded up, the exempt share is that region.
    regions = np.zeros((50, 60), np.int32)
    for seed in range(20):
        views = ViewSampler(size=32)(ramp(50, 60), regions, np.random.default_rng(seed))
        assert (views.regions == 0).all()
        assert not views.noise.any()
    sampler = ViewSampler(size=32, preserve_ratio=0.0, max_tries=4)
    with pytest.raises(NoMutualRegions, match="4 draws of 5 views of a 60 x 50 image"):
        sampler(ramp(50, 60), regions, np.random.default_rng(0))


@pytest.mark.parametrize("least", [-1, 0])
@pytest.mark.parametrize("side", [15, 16, 17])
def test_ids_that_just_fit_into_bytes_and_that_do_not(side: int, least: int) -> None:
    regions = np.arange(side * side, dtype=np.int32).reshape(side, side).repeat(6, 0).repeat(6, 1)
    regions = np.maximum(regions - (least == -1), least)
    image = ramp(*regions.shape)
    for seed in range(5):
        sampler = ViewSampler(num_views=3, size=(64, 90), scale=(0.6, 1.4))
        views = sampler(image, regions, np.random.default_rng(seed))
        check_views(views, regions)


def test_whatever_ids_are_kept_as_views_are_the_same() -> None:
    """Of ids that fit into bytes, and of the same beside one that does not."""
    regions = grid(120, 150, 10)
    wide = regions.copy()
    wide[-1, -1] = 300
    image, same = np.random.default_rng(0).integers(0, 256, (120, 150, 3), np.uint8), 0
    sampler = ViewSampler(num_views=2, size=40, scale=(1, 1.5), preserve_ratio=0.0)
    for seed in range(20):
        drawn = [sampler(image, ids, np.random.default_rng(seed)) for ids in (regions, wide)]
        if (drawn[0].boxes[:, 2:] == (150, 120)).all(axis=1).any():
            continue  # a view of the pixel in which they differ
        same += 1
        for name in ("images", "regions", "noise", "boxes", "flipped"):
            np.testing.assert_array_equal(*(getattr(each, name) for each in drawn))
    assert same > 5


def test_ids_from_0_to_65535() -> None:
    regions = grid(256, 256, 1)
    sampler = ViewSampler(size=256, scale=(1, 1), flip_probability=0.5, mask_intensity=0.02)
    kept = set()
    for seed in range(3):
        views = sampler(ramp(256, 256), regions, np.random.default_rng(seed))
        kept |= check_views(views, regions)
    assert {0, 65535} <= kept
    reversed_ids = np.ascontiguousarray(65535 - regions).astype(np.uint16)
    assert {0, 65535} <= check_views(
        sampler(ramp(256, 256), reversed_ids, np.random.default_rng(0)),
        reversed_ids.astype(np.int32),
    )


def test_id_0_is_kept_as_often_as_any_other() -> None:
    first = np.zeros((90, 90), np.int32)
    first[:, 45:] = 1
    image = np.full((90, 90, 3), 128, np.uint8)  # flat: no content, no left or right
    sampler = ViewSampler(size=40, mask_intensity=0.3, preserve_ratio=0.5)
    counts = np.zeros(2)
    for seed in range(300):
        views = sampler(image, first, np.random.default_rng(seed))
        for region in (0, 1):
            counts[region] += (views.regions == region).any()
    assert 0.85 < counts[0] / counts[1] < 1.18


def test_preserved_share() -> None:
    regions = grid(100, 100, 10)
    for ratio in (0.0, 0.25, 1.0):
        sampler = ViewSampler(
            size=100, scale=(1, 1), mask_intensity=1.0, preserve_ratio=ratio, max_tries=50
        )
        kept = [
            len(check_views(sampler(ramp(100, 100), regions, np.random.default_rng(seed)), regions))
            for seed in range(40)
        ]
        # All 100 squares are in every view, so the exempt share of them is left at least.
        assert min(kept) >= max(1, math.ceil(100 * ratio))
        assert (min(kept) == 100) == (ratio == 1.0)
        if ratio == 0.25:
            assert min(kept) < 50


def test_masks_grow_with_their_intensity() -> None:
    regions = grid(200, 200, 8)
    share = []
    for intensity in (0.0, 0.1, 0.25, 0.5):
        sampler = ViewSampler(size=100, mask_intensity=intensity)
        noise = [
            sampler(ramp(200, 200), regions, np.random.default_rng(seed)).noise.mean()
            for seed in range(30)
        ]
        share.append(float(np.mean(noise)))
    assert share[0] == 0
    assert 0 < share[1] < share[2] < share[3] < 0.4


def test_draws_again_until_something_is_mutual() -> None:
    regions = grid(60, 60, 30)
    sampler = ViewSampler(size=40, mask_intensity=0.7, preserve_ratio=0.0, max_tries=500)
    tries = []
    for seed in range(10):
        views = sampler(ramp(60, 60), regions, np.random.default_rng(seed))
        check_views(views, regions)
        tries.append(views.tries)
    assert max(tries) > 1


def test_views_gather_at_content() -> None:
    image = np.full((400, 400, 3), 100, np.uint8)
    image[300:340, 60:100] = np.random.default_rng(0).integers(0, 256, (40, 40, 3))
    regions = grid(400, 400, 20)
    sampler = ViewSampler(size=60, scale=(0.5, 1.0), num_views=2)
    hits = 0
    for seed in range(100):
        x0, y0, x1, y1 = sampler(image, regions, np.random.default_rng(seed)).boxes[0]
        hits += 55 <= (x0 + x1) / 2 <= 105 and 295 <= (y0 + y1) / 2 <= 345
    # 40 x 40 textured pixels of weight about 1 against 158,400 flat ones of 0.005.
    assert 45 < hits < 90


def test_resolution_views() -> None:
    regions = grid(500, 500, 10)
    sampler = ViewSampler(size=50, num_views=4, resolution_probability=1.0)
    boxes = sampler(ramp(500, 500), regions, np.random.default_rng(0)).boxes
    zoom = (boxes[:, 2] - boxes[:, 0]) / 50
    assert (np.diff(zoom) >= 0).all()
    assert zoom[0] <= 1
    assert zoom[3] >= 4


@pytest.mark.parametrize(
    "options",
    [
        {"num_views": 0},
        {"max_tries": 0},
        {"size": 0},
        {"size": (4, 0)},
        {"scale": (2.0, 0.5)},
        {"scale": (0.0, 1.0)},
        {"mask_intensity": 1.5},
        {"preserve_ratio": -0.1},
        {"flip_probability": 2},
        {"resolution_probability": -1},
        {"resolution_ratios": (1.0,)},
        {"resolution_ratios": (1.0, 1.0)},
        {"edge_floor": 0.0},
    ],
)
def test_bad_parameters_are_named(options: dict) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        ViewSampler(**options)


def test_bad_inputs() -> None:
    sampler, rng = ViewSampler(size=8), np.random.default_rng(0)
    image, regions = ramp(10, 12), grid(10, 12, 3)
    with pytest.raises(UserError, match="uint8 RGB"):
        sampler(image[..., 0], regions, rng)
    with pytest.raises(UserError, match=r"\(10, 12\).*\(12, 10\)"):
        sampler(image, regions.T, rng)
    with pytest.raises(UserError, match="float64"):
        sampler(image, regions.astype(float), rng)
    for bad in (-2, 10**7):
        with pytest.raises(UserError, match="relabel"):
            sampler(image, np.full((10, 12), bad), rng)
    with pytest.raises(NoMutualRegions):
        sampler(image, np.full((10, 12), -1), rng)
