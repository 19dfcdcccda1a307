from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from vice.errors import UserError
from vice.superpixels import Superpixels, backend, grid, slic
from vice.superpixels import source as superpixels

NOISE = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def fresh_backend() -> Iterator[None]:
    backend.cache_clear()
    yield
    backend.cache_clear()


def cached(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_cache_hit_does_not_compute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Superpixels(cache_dir=tmp_path / "deep" / "cache")
    first = maker(NOISE)
    np.testing.assert_array_equal(first, slic(NOISE))
    (file,) = cached(tmp_path)
    with np.load(file) as archive:
        assert archive["regions"].dtype == np.uint16

    def fail(*_: object) -> None:
        raise AssertionError("computed although cached")

    monkeypatch.setattr(superpixels, "slic", fail)
    again = Superpixels(cache_dir=tmp_path / "deep" / "cache")(NOISE.copy(order="F"))
    assert again.dtype == np.int32
    np.testing.assert_array_equal(again, first)


def test_cache_key_holds_content_shape_and_parameters(tmp_path: Path) -> None:
    other = NOISE.copy()
    other[5, 5, 1] ^= 1
    Superpixels(cache_dir=tmp_path)(NOISE)
    Superpixels(cache_dir=tmp_path)(other)
    Superpixels(cache_dir=tmp_path)(NOISE.reshape(130, 90, 3))
    for options in ({"region_size": 10}, {"ruler": 20.0}, {"iterations": 2}, {"blur_sigma": 4.0}):
        expected = slic(NOISE, **options)
        np.testing.assert_array_equal(Superpixels(cache_dir=tmp_path, **options)(NOISE), expected)
    assert len(cached(tmp_path)) == 7


def test_cache_key_holds_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(getattr(cv2, "ximgproc", None), "createSuperpixelSLIC"):
        pytest.skip("needs cv2.ximgproc of opencv-contrib")
    Superpixels(cache_dir=tmp_path)(NOISE)
    backend.cache_clear()
    monkeypatch.delattr(cv2.ximgproc, "createSuperpixelSLIC")
    Superpixels(cache_dir=tmp_path)(NOISE)
    assert len(cached(tmp_path)) == 2


def test_grids_are_not_cached(tmp_path: Path) -> None:
    Superpixels("grid", cache_dir=tmp_path)(NOISE)
    Superpixels("pixel", cache_dir=tmp_path)(NOISE)
    assert cached(tmp_path) == []


@pytest.mark.parametrize("damage", ["empty", "garbage", "cut", "shape", "dtype", "key", "pickle"])
def test_broken_cache_file_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    maker = Superpixels(cache_dir=tmp_path)
    expected = maker(NOISE)
    (file,) = cached(tmp_path)
    good = file.read_bytes()
    if damage in ("empty", "garbage", "cut"):
        file.write_bytes(
            {"empty": b"", "garbage": b"x" * 99, "cut": good[: len(good) // 2]}[damage]
        )
    else:
        content = {
            "shape": {"regions": np.zeros((3, 3), np.uint16)},
            "dtype": {"regions": expected.astype(np.float64)},
            "key": {"other": expected},
            "pickle": {"regions": np.array([{}], dtype=object)},
        }[damage]
        np.savez_compressed(file, **content)
    for _ in range(3):
        np.testing.assert_array_equal(maker(NOISE), expected)
    assert caplog.text.count("broken superpixel cache file") == 1
    assert str(file) in caplog.text
    assert cached(tmp_path) == [file]
    with np.load(file) as archive:
        np.testing.assert_array_equal(archive["regions"], expected)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_a_file_that_the_system_does_not_read_is_not_called_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    maker = Superpixels(cache_dir=tmp_path)
    expected = maker(NOISE)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("vice.superpixels.cache.open_npz", refuse)
    np.testing.assert_array_equal(maker(NOISE), expected)
    assert "unreadable superpixel cache file" in caplog.text
    assert os.strerror(number) in caplog.text and "broken" not in caplog.text


def test_cache_keeps_ids_beyond_16_bit(tmp_path: Path) -> None:
    cache = superpixels.RegionCache(tmp_path, "test")
    for regions in (grid(300, 300, 1), np.array([[-1, 4]], np.int32)):
        cache.write(tmp_path / "a.npz", regions)
        back = cache.read(tmp_path / "a.npz", regions.shape)
        assert back is not None
        np.testing.assert_array_equal(back, regions)


def test_cache_of_many_writers(tmp_path: Path) -> None:
    maker = Superpixels(cache_dir=tmp_path, iterations=1)
    expected = slic(NOISE, iterations=1)
    with ThreadPoolExecutor(8) as pool:
        for regions in pool.map(maker, [NOISE] * 24):
            np.testing.assert_array_equal(regions, expected)
    assert len(cached(tmp_path)) == 1


def test_cache_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="superpixel cache"):
        Superpixels(cache_dir=tmp_path / "file")
    maker = Superpixels(cache_dir=tmp_path / "cache")
    (tmp_path / "cache").rmdir()
    for _ in range(3):
        np.testing.assert_array_equal(maker(NOISE), slic(NOISE))
    assert caplog.text.count("not cached") == 1


def test_a_map_under_the_name_of_another_image(tmp_path: Path) -> None:
    maker = Superpixels(cache_dir=tmp_path, iterations=1)
    other = NOISE[::-1].copy()
    maker(other)
    assert maker.cache is not None
    wrong = maker.cache.path(NOISE)
    wrong.parent.mkdir(exist_ok=True)
    maker.cache.path(other).rename(wrong)
    np.testing.assert_array_equal(maker(NOISE), slic(NOISE, iterations=1))
    with np.load(wrong) as archive:
        np.testing.assert_array_equal(archive["regions"], slic(NOISE, iterations=1))
