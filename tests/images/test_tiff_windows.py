"""Windows of TIFF files by their tiles and strips, without holding the rest."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from vice.errors import UserError
from vice.images import read_image
from vice.images.tiff_windows import TiffWindows

tifffile = pytest.importorskip("tifffile")

LAYOUTS = {
    "tiles": {"tile": (32, 48)},
    "tiles, deflated": {"tile": (16, 16), "compression": "zlib"},
    "strips": {"rowsperstrip": 7},
    "one strip": {},
    "big endian": {"tile": (32, 32), "byteorder": ">"},
    "big file": {"tile": (32, 32), "bigtiff": True},
}


def written(path, pixels, byteorder=None, bigtiff=False, **layout):
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    with tifffile.TiffWriter(path, byteorder=byteorder, bigtiff=bigtiff) as file:
        file.write(pixels, photometric=photometric, **layout)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(101, 75, 3), (64, 96), (1, 7, 3)])
def test_windows_are_what_is_read_as_a_whole(tmp_path, rng, layout, shape):
    pixels = rng.integers(0, 256, shape, np.uint8)
    path = written(tmp_path / "a.tif", pixels, **LAYOUTS[layout])
    windows = TiffWindows.of(path, 0)
    assert windows.size == shape[:2]
    whole = read_image(path)
    for _ in range(8):
        rows, columns = (sorted(rng.integers(0, length, 2)) for length in shape[:2])
        rows, columns = (rows[0], rows[1] + 1), (columns[0], columns[1] + 1)
        found = windows.read(rows, columns)
        assert np.array_equal(found, whole[slice(*rows), slice(*columns)])


def test_what_is_left_to_a_whole_reading(tmp_path, rng):
    pixels = rng.integers(0, 256, (40, 30, 3), np.uint8)
    assert TiffWindows.of(written(tmp_path / "small.tif", pixels), 10**6) is None
    wide = written(tmp_path / "wide.tif", rng.integers(0, 65536, (40, 30, 3), np.uint16))
    assert TiffWindows.of(wide, 0) is None
    planes = written(tmp_path / "planes.tif", pixels.transpose(2, 0, 1), planarconfig="separate")
    assert TiffWindows.of(planes, 0) is None
    turned = tmp_path / "turned.tif"
    Image.fromarray(pixels).save(turned, tiffinfo={274: 6})
    assert TiffWindows.of(turned, 0) is None
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert TiffWindows.of(tmp_path / "a.png", 0) is None
    assert TiffWindows.of(tmp_path / "missing.tif", 0) is None


def test_without_tifffile(tmp_path, rng, monkeypatch):
    path = written(tmp_path / "a.tif", rng.integers(0, 256, (40, 30, 3), np.uint8))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(UserError, match=r"a\.tif: .* needs tifffile: pip install tifffile$"):
        TiffWindows.of(path, 0)


def test_a_broken_tile_is_named(tmp_path, rng):
    pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
    path = written(tmp_path / "a.tif", pixels, tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[2]
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = bytes(40)
    path.write_bytes(data)
    windows = TiffWindows.of(path, 0)
    assert np.array_equal(windows.read((0, 32), (0, 64)), pixels[:32])
    with pytest.raises(UserError, match=r"a\.tif: tile 2 cannot be decoded"):
        windows.read((0, 64), (0, 64))


@pytest.mark.parametrize("stride", ["image", "native"])
def test_a_file_is_embedded_window_by_window(tmp_path, rng, stride, monkeypatch):
    import vice
    from vice.predictor import given_images
    from vice.predictor.memory import FIXED

    pixels = rng.integers(0, 256, (300, 200, 3), np.uint8)
    path = written(tmp_path / "a.tif", pixels, tile=(64, 64))
    monkeypatch.setattr(given_images, "DECODING", 10**9)
    predictor = vice.load("lab", device="cpu")
    found = predictor.embed(path, stride, memory=FIXED + 2**20)
    assert max(predictor.tiling.tiles) > 1
    assert (found - predictor.embed(pixels, stride)).abs().max() < 1e-4
