from __future__ import annotations

import numpy as np
import pytest
import torch

from vice.visualize import colorize, overlay, palette, pca_rgb, region_boundaries


def test_pca_equals_scikit_learn_up_to_sign() -> None:
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    scales = np.linspace(3, 0.1, 9)[:, None, None]
    maps = [rng.standard_normal((9, 20, 30)) * scales, rng.standard_normal((9, 11, 7)) * scales]
    pictures = pca_rgb(maps)
    assert [p.shape for p in pictures] == [(20, 30, 3), (11, 7, 3)]
    expected = PCA(3).fit_transform(np.concatenate([m.reshape(9, -1).T for m in maps]))
    low, high = np.percentile(expected, (1, 99), axis=0)
    expected = ((expected - low) / (high - low)).clip(0, 1) * 255
    found = np.concatenate([p.reshape(-1, 3) for p in pictures]).astype(float)
    for k in range(3):
        apart = min(np.abs(found - e).max(0)[k] for e in (expected, 255 - expected))
        assert apart < 0.51


def test_pca_shares_one_scale_over_pictures() -> None:
    rng = np.random.default_rng(1)
    first = rng.standard_normal((5, 16, 16))
    second = np.concatenate([first[:, :8], rng.standard_normal((5, 8, 16))], 1)
    one, two = pca_rgb([first, second])
    np.testing.assert_array_equal(one[:8], two[:8])


def test_pca_ignores_outliers() -> None:
    rng = np.random.default_rng(2)
    calm = rng.standard_normal((3, 40, 40)) * np.array([3.0, 2, 1])[:, None, None]
    wild = calm.copy()
    wild[:, 0, :3] = 1e4
    assert pca_rgb(calm).std() == pytest.approx(pca_rgb(wild)[1:].std(), rel=0.35)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("offset", [0, 2000])
def test_pca_is_that_of_float64_in_any_precision(kind: type, offset: int) -> None:
    rng = np.random.default_rng(4)
    size = 100 if kind is np.int32 else 1
    spread = rng.standard_normal((16, 4)) @ (rng.standard_normal((4, 900)) * [[8], [4], [2], [1]])
    given = (spread * size + offset).reshape(16, 30, 30).astype(kind)
    given.flags.writeable = False
    before = given.copy()
    found, exact = pca_rgb(given), pca_rgb(given.astype(np.float64))
    assert np.abs(found.astype(int) - exact).max() <= 1
    assert (given == before).all()


@pytest.mark.parametrize(("first", "unit"), [(1.0, 1.0), (1e4, 1.0), (1e4, 1e18)])
def test_pca_keeps_components_beside_a_strong_one(first: float, unit: float) -> None:
    rng = np.random.default_rng(1)
    scales = np.array([first, 1, 0.7, *[0.1] * 13]) * unit
    turned = np.linalg.qr(rng.standard_normal((16, 16)))[0]
    given = (turned @ (scales[:, None] * rng.standard_normal((16, 900)))).reshape(16, 30, 30)
    found, exact = (
        pca_rgb(given.astype(np.float32)),
        pca_rgb(given.astype(np.float32).astype(float)),
    )
    assert (np.abs(found.astype(int) - exact) > 2).mean() < 0.01


@pytest.mark.parametrize(
    "kind", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.int16]
)
def test_pca_takes_tensors_of_types_that_numpy_has_not(kind: torch.dtype) -> None:
    given = (8 * torch.randn(4, 6, 8)).to(kind)
    assert (pca_rgb(given) == pca_rgb(given.float())).all()


def test_pca_takes_tensors_and_degenerate_embeddings() -> None:
    picture = pca_rgb(torch.randn(4, 6, 8, requires_grad=True))
    assert picture.shape == (6, 8, 3) and picture.dtype == np.uint8
    assert (pca_rgb(np.ones((4, 6, 8), np.float32)) == 128).all()
    two = pca_rgb(np.random.default_rng(0).standard_normal((2, 6, 8)))
    assert (two[..., 2] == 128).all() and two[..., 0].std() > 0


def test_pca_refuses_what_is_no_embedding() -> None:
    with pytest.raises(ValueError, match=r"\(D, H, W\)"):
        pca_rgb(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="one D"):
        pca_rgb([np.zeros((4, 2, 2)), np.zeros((5, 2, 2))])
    with pytest.raises(ValueError):
        pca_rgb([])


def test_palette_is_distinct_and_grows_at_the_end() -> None:
    colors = palette(200)
    assert colors.shape == (200, 3) and colors.dtype == np.uint8
    assert len(np.unique(colors, axis=0)) == 200
    np.testing.assert_array_equal(palette(6), colors[:6])
    assert colors.max(1).min() > 60


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_colorize(make) -> None:
    labels = np.array([[0, 1, 2], [255, -1, 2]], np.int64)
    picture = colorize(make(labels), 3)
    colors = palette(3)
    assert (picture[1, :2] == 0).all()
    for y, x in ((0, 0), (0, 1), (0, 2), (1, 2)):
        np.testing.assert_array_equal(picture[y, x], colors[labels[y, x]])
    with pytest.raises(ValueError, match="label 2 "):
        colorize(make(labels), 2)


def test_colorize_with_256_clusters_has_no_black() -> None:
    picture = colorize(np.arange(256).reshape(16, 16), 256, ignore=None)
    assert (picture.max(-1) > 0).all()


def test_overlay_mixes() -> None:
    image = np.full((2, 2, 3), 200, np.uint8)
    colors = np.full((2, 2, 3), 100, np.uint8)
    assert (overlay(image, colors, 0.25) == 175).all()
    with pytest.raises(ValueError, match="lay"):
        overlay(image, colors[:1])


def test_boundaries_are_where_a_neighbour_differs() -> None:
    rng = np.random.default_rng(3)
    regions = rng.integers(-1, 2, (9, 12))
    image = np.zeros((9, 12, 3), np.uint8)
    drawn = region_boundaries(image, regions, (1, 2, 3))
    for y in range(9):
        for x in range(12):
            right = x + 1 < 12 and regions[y, x] != regions[y, x + 1]
            below = y + 1 < 9 and regions[y, x] != regions[y + 1, x]
            assert tuple(drawn[y, x]) == ((1, 2, 3) if right or below else (0, 0, 0))
    assert not image.any()
    with pytest.raises(ValueError, match="fit"):
        region_boundaries(image, regions[1:])
