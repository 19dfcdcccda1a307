from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from vice.visualize import draw_views, palette


def make_views(seed: int = 0) -> tuple[np.ndarray, SimpleNamespace]:
    """Three hand-made views of a flat image: left half region 7, right half not mutual."""
    image = np.full((60, 90, 3), 120, np.uint8)
    regions = np.full((3, 40, 40), -1, np.int32)
    regions[:, :, :20] = 7
    noise = np.zeros((3, 40, 40), bool)
    noise[1, 10:20, 25:35] = True
    boxes = np.array([[0, 0, 30, 30], [10, 10, 50, 50], [40, 20, 90, 60]], np.int32)
    images = np.full((3, 40, 40, 3), 120, np.uint8)
    return image, SimpleNamespace(images=images, regions=regions, noise=noise, boxes=boxes)


def panel(sheet: np.ndarray, index: int, row: int) -> np.ndarray:
    """The inside of a view's upper or lower picture, checked to sit in its frame."""
    left, top = sheet.shape[1] + (index - 3) * 56, 20 + row * 56
    cell = sheet[top : top + 46, left : left + 46]
    for edge in (cell[:3], cell[-3:], cell[:, :3], cell[:, -3:]):
        assert (edge == palette(3)[index]).all()
    return cell[3:-3, 3:-3]


def test_a_mutual_region_has_the_same_color_in_each_view() -> None:
    image, views = make_views()
    sheet = draw_views(image, views)
    painted = [panel(sheet, index, 1) for index in range(3)]
    assert all(p.shape == (40, 40, 3) for p in painted)
    color = painted[0][0, 0]
    for p in painted:
        assert (p[:, :20] == color).all()
        assert not (p[:, 20:] == color).all(-1).any()
        assert len(np.unique(p[:, 20:].reshape(-1, 3), axis=0)) == 1


def test_masked_area_is_noise_and_nothing_else_is() -> None:
    image, views = make_views()
    sheet = draw_views(image, views)
    drawn = panel(sheet, 1, 0)
    masked = views.noise[1]
    assert len(np.unique(drawn[masked], axis=0)) > 90
    border = np.zeros((40, 40), bool)
    border[:, 19] = True
    assert (drawn[~masked & ~border] == 120).all()
    assert not (drawn[border] == 120).all(-1).any()
    other = panel(sheet, 0, 0)
    assert (other[~border] == 120).all()


def test_boxes_are_drawn_on_the_image() -> None:
    image, views = make_views()
    sheet = draw_views(image, views)
    whole = sheet[:, : sheet.shape[1] - 3 * 56 - 10]
    for color in palette(3):
        assert (whole == color).all(-1).sum() > 100


def test_same_seed_same_picture() -> None:
    image, views = make_views()
    np.testing.assert_array_equal(draw_views(image, views), draw_views(image, views))
    assert (draw_views(image, views) != draw_views(image, views, seed=1)).any()


def test_large_views_are_shrunk() -> None:
    image, views = make_views()
    small = draw_views(image, views)
    views.images, views.regions, views.noise = (
        np.repeat(np.repeat(a, 6, 1), 6, 2) for a in (views.images, views.regions, views.noise)
    )
    np.testing.assert_array_equal(draw_views(image, views, height=40).shape, small.shape)


def test_a_panorama_stays_small() -> None:
    _, views = make_views()
    sheet = draw_views(np.zeros((6, 3000, 3), np.uint8), views)
    assert sheet.shape[0] == 132 and sheet.shape[1] < 800


def test_views_of_the_sampler() -> None:
    from vice.superpixels import grid
    from vice.views import ViewSampler

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (90, 120, 3)).astype(np.uint8)
    views = ViewSampler(num_views=4, size=48)(image, grid(90, 120, 12), rng)
    sheet = draw_views(image, views)
    assert sheet.ndim == 3 and sheet.dtype == np.uint8
