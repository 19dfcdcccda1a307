"""Region maps on disk: formats, sizes, names, and standardisation beside their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vice.errors import UserError
from vice.images import ImageError, standardize
from vice.superpixels import RegionFiles, Superpixels
from vice.superpixels.external import from_file

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (90, 130, 3), dtype=np.uint8)


def test_from_file(tmp_path: Path) -> None:
    labels = RNG.integers(0, 600, (20, 30)).astype(np.uint16)
    expected = np.unique(labels, return_inverse=True)[1].reshape(20, 30)
    Image.fromarray(labels).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", labels.astype(np.int64) * 1000)
    Image.fromarray((labels % 7).astype(np.uint8)).save(tmp_path / "b.png")
    np.testing.assert_array_equal(from_file(tmp_path / "a.png", (20, 30)), expected)
    np.testing.assert_array_equal(from_file(str(tmp_path / "a.npy")), expected)
    np.testing.assert_array_equal(from_file(tmp_path / "b.png"), labels % 7)
    np.save(tmp_path / "hole.npy", np.array([[-1, 5]]))
    assert from_file(tmp_path / "hole.npy").tolist() == [[-1, 0]]


def test_from_file_errors(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png"):
        from_file(tmp_path / "gone.png")
    np.save(tmp_path / "a.npy", np.zeros((4, 6), np.int32))
    with pytest.raises(ImageError, match=r"a\.npy.*4 x 6.*6 x 4"):
        from_file(tmp_path / "a.npy", (6, 4))
    np.save(tmp_path / "f.npy", np.zeros((4, 6)))
    with pytest.raises(ImageError, match=r"f\.npy.*integers.*float64"):
        from_file(tmp_path / "f.npy")
    Image.fromarray(np.dstack([NOISE, NOISE[..., 0]])).save(tmp_path / "rgba.png")
    with pytest.raises(ImageError, match=r"rgba\.png.*one channel.*uint8 \(90, 130, 4\)"):
        from_file(tmp_path / "rgba.png")
    np.savez(tmp_path / "two.npz", a=np.zeros((4, 6), int), b=np.zeros((4, 6), int))
    with pytest.raises(ImageError, match=r"two\.npz.*holds a, b, and no 'regions'"):
        from_file(tmp_path / "two.npz")
    np.save(tmp_path / "o.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    for name in ("o.npy", "broken.png"):
        with pytest.raises(ImageError, match=name):
            from_file(tmp_path / name)


def test_ids_coded_as_colours(tmp_path: Path) -> None:
    codes = np.array([[0, 255, 256], [65536, 16_777_215, 256]])
    colors = np.stack([codes % 256, codes // 256 % 256, codes // 65536], axis=2)
    Image.fromarray(colors.astype(np.uint8)).save(tmp_path / "a.png")
    found = from_file(tmp_path / "a.png", (2, 3))
    assert found.dtype == np.int32
    assert found.tolist() == [[0, 1, 2], [3, 4, 2]]


def test_archives(tmp_path: Path) -> None:
    labels = np.array([[7, -2], [7, 70_000]])
    np.savez_compressed(tmp_path / "one.npz", masks=labels)
    np.savez_compressed(tmp_path / "named.npz", regions=labels, key=np.array("x"))
    for name in ("one.npz", "named.npz"):
        assert from_file(tmp_path / name).tolist() == [[0, -1], [0, 1]]


def test_the_nearest_name_is_found(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    (maps / "a" / "b").mkdir(parents=True)
    (maps / "b").mkdir()
    files = RegionFiles(maps)
    image = tmp_path / "a" / "b" / "photo.1.jpg"
    with pytest.raises(ImageError, match=r"b/photo\.1\.jpg: no region map .*maps/photo\.1\.png"):
        files.find(image)
    for name in ("photo.1.npz", "photo.1.png", "b/photo.1.png", "a/b/photo.1.npy"):
        (maps / name).touch()
        assert files.find(image) == maps / name
    assert files.find("photo.1.jpg") == maps / "photo.1.png"
    assert files.find("/photo.1.jpg") == maps / "photo.1.png"


@pytest.mark.parametrize(
    "sizes",
    [
        {"mode": "none"},
        {"mode": "lowres", "square": 40},
        {"mode": "highres", "min_side": 30, "max_side": 60},
        {"mode": "highres", "min_side": 120, "max_side": 150},
    ],
)
def test_maps_are_standardised_with_their_images(tmp_path: Path, sizes: dict) -> None:
    """An image that shows its own map keeps showing it: only blended edges may differ."""
    labels = np.kron(np.arange(12).reshape(3, 4), np.ones((30, 31), int))
    colors = RNG.permutation(256)[:12].astype(np.uint8)
    image = np.repeat(colors[labels][:, :, None], 3, axis=2)
    Image.fromarray(image).save(tmp_path / "x.png")
    (tmp_path / "maps").mkdir()
    Image.fromarray(labels.astype(np.uint8) * 20).save(tmp_path / "maps" / "x.png")
    found, regions = Superpixels("files", folder=tmp_path / "maps").read(
        tmp_path / "x.png", **sizes
    )
    np.testing.assert_array_equal(found, standardize(image, **sizes))
    assert regions.shape == found.shape[:2] and regions.dtype == np.int32
    np.testing.assert_array_equal(np.unique(regions), np.arange(regions.max() + 1))
    gray = found[:, :, 0].astype(int)
    for region in range(regions.max() + 1):
        inside = gray[regions == region]
        color = np.bincount(inside).argmax()
        assert color in colors
        assert (inside == color).mean() > 0.6
    if sizes["mode"] == "none":
        np.testing.assert_array_equal(regions, labels)


def test_small_regions_that_vanish_leave_no_gap(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "x.png")
    (tmp_path / "maps").mkdir()
    labels = np.arange(90 * 130, dtype=np.int32).reshape(90, 130)
    np.save(tmp_path / "maps" / "x.npy", labels)
    maker = Superpixels("files", folder=tmp_path / "maps", cache_dir=tmp_path / "cache")
    _, regions = maker.read(tmp_path / "x.png", mode="highres", min_side=20, max_side=50)
    np.testing.assert_array_equal(np.unique(regions), np.arange(regions.size))
    assert maker.cache is None and not (tmp_path / "cache").exists()


def test_a_map_of_another_size_names_both_files(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "x.jpg")
    (tmp_path / "maps").mkdir()
    # The same shape after standardisation, but half the size.
    Image.fromarray(NOISE[::2, ::2, 0]).save(tmp_path / "maps" / "x.png")
    maker = Superpixels("files", folder=tmp_path / "maps")
    with pytest.raises(ImageError, match=r"maps/x\.png.*45 x 65 pixels .*90 x 130"):
        maker.read(tmp_path / "x.jpg", mode="highres", min_side=20, max_side=40)


def test_files_need_a_folder_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs the folder of the maps: set folder=FOLDER"):
        Superpixels("files")
    with pytest.raises(UserError, match="gone of region maps does not exist"):
        Superpixels("files", folder=tmp_path / "gone")
    with pytest.raises(UserError, match="needs the image's file"):
        Superpixels("files", folder=tmp_path)(NOISE)
