"""Images beyond 8-bit RGB under a stated scale, chosen bands and a page: right, or one line."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers.image_kinds import (
    UPRIGHT,
    Kind,
    draw_kind,
    draw_samples,
    expected,
    write_kind,
)
from tests.helpers.tiffs import tiff
from vice.errors import UserError
from vice.images import ImageError, ImageReading, Reading, read_image, upright_rgb
from vice.images.image_windows import open_image_windows
from vice.images.measure import measure
from vice.images.reading_options import Scale, asked_reading
from vice.images.tiff_pages import TiffSamples, read_pages

KINDS = [
    Kind(dtype="uint8", bits=8, bands=4),
    Kind(bits=10),
    Kind(bits=12, bands=1, packed=True),
    Kind(bits=12, bands=5, planar=True, big_endian=True),
    Kind(bands=7, compression="lzw", predictor=True, tiled=True),
    Kind(bands=4, alpha=True, compression="zlib"),
    Kind(bands=2, alpha=True),
    Kind(dtype="int16", bands=1),
    Kind(dtype="uint32", bits=32, bands=3, planar=True, compression="lzw"),
    Kind(dtype="float16", bands=3, broken=True),
    Kind(dtype="float32", bits=32, bands=6, planar=True, compression="zlib", tiled=True),
    Kind(dtype="float64", bits=64, bands=1, big_endian=True, broken=True),
    Kind(bands=1, pages=3, compression="zlib"),
    Kind(bands=3, orientation=6, big_endian=True),
    Kind("png", "uint16", 16, 3),
    Kind("png", "uint16", 16, 1),
    Kind("png", "uint8", 8, 4),
]  # fmt: skip


def right(kind, path, samples, rng):
    """Reads a file by a scale, all bands where they are one or three, and with bands chosen."""
    low, high = kind.span
    scale = (low + 0.1 * (high - low), low + 0.8 * (high - low))
    page = int(rng.integers(kind.pages))
    stored = UPRIGHT[kind.orientation](samples[page])
    count = kind.bands - kind.alpha
    if kind.container == "png" and kind.bands == 4:
        count = 3
    if count in (1, 3):
        black, white = (scale[0],) * count, (scale[1],) * count
        read = Reading(kind.dtype, kind.bands, (), page + 1, black, white, "x")
        alpha = None
        if count < kind.bands:
            alpha = stored[..., -1].astype(np.float64) / (2 ** (8 * samples.itemsize) - 1)
        found = read_image(path, reading=read).astype(int)
        wanted = expected(stored[..., :count], black, white, alpha)
        assert np.abs(found - wanted).max() <= (0 if alpha is None else 1)
    for bands in (tuple(rng.integers(1, kind.bands + 1, 3).tolist()), (kind.bands,)):
        black = tuple(scale[0] + 0.01 * k * (high - low) for k in range(len(bands)))
        white = tuple(scale[1] - 0.01 * k * (high - low) for k in range(len(bands)))
        read = Reading(kind.dtype, kind.bands, bands, page + 1, black, white, "x")
        wanted = expected(stored[..., [band - 1 for band in bands]], black, white)
        np.testing.assert_array_equal(read_image(path, reading=read), wanted)
        windows = open_image_windows(path, read, 0)
        if windows is not None:
            np.testing.assert_array_equal(
                windows.read((3, 20), (2, 19)), wanted[3:20, 2:19]
            )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_is_read_as_its_scale_says(tmp_path, rng, kind):
    samples = draw_samples(kind, rng, 21, 34)
    right(kind, write_kind(tmp_path / "a", kind, samples), samples, rng)


def test_drawn_kinds(tmp_path, rng):
    for number in range(40):
        kind = draw_kind(rng)
        samples = draw_samples(kind, rng, int(rng.integers(20, 40)), int(rng.integers(19, 40)))
        right(kind, write_kind(tmp_path / str(number), kind, samples), samples, rng)


def written(folder, arrays):
    folder.mkdir()
    for number, array in enumerate(arrays):
        photometric = 2 if array.ndim == 3 and array.shape[2] > 2 else 1
        more = 0 if array.ndim == 2 else array.shape[2] - (3 if photometric == 2 else 1)
        (folder / f"{number}.tif").write_bytes(tiff(array, photometric, extra=(0,) * more))
    return folder


def test_percentiles_are_of_each_band_over_all_images(tmp_path, rng, caplog):
    arrays = [rng.integers(0, 2**12, (17, 23, 5), dtype=np.uint16) for _ in range(3)]
    folder = written(tmp_path / "a", arrays)
    with caplog.at_level(logging.INFO):
        read = measure(folder, ImageReading("p2,p98", (4, 3, 2)))
    every = np.concatenate([each.reshape(-1, 5) for each in arrays])
    for band, black, white in zip((4, 3, 2), read.black, read.white, strict=True):
        values = np.sort(every[:, band - 1])
        # The definition: so large a share of the values does not exceed it, and of less it does.
        for share, value in ((0.02, black), (0.98, white)):
            assert (values <= value).mean() >= share > (values < value).mean()
    outside = np.mean(
        [(every[:, b - 1] < lo) | (every[:, b - 1] > hi)
         for b, lo, hi in zip((4, 3, 2), read.black, read.white, strict=True)]
    )  # fmt: skip
    assert f"{100 * outside:.2g} % of their values lie outside" in caplog.text
    assert Reading.of(read.to_dict()) == read


def test_floats_with_gaps(tmp_path, rng):
    values = rng.normal(size=(30, 20)).astype(np.float32)
    values[:3] = np.nan
    values[3, :2] = np.inf, -np.inf
    read = measure(written(tmp_path / "a", [values]), ImageReading("p0,p100"))
    finite = values[np.isfinite(values)]
    assert (read.black[0], read.white[0]) == (finite.min(), finite.max())
    found = read_image(tmp_path / "a" / "0.tif", reading=read)
    assert found[0, 0, 0] == 0 and found[3, 0, 0] == 255 and found[3, 1, 0] == 0


def test_what_has_to_be_said(tmp_path, rng):
    deep = rng.integers(0, 4096, (9, 9, 5), dtype=np.uint16)
    folder = written(tmp_path / "a", [deep])
    for asked, said in (
        (ImageReading("0,4095"), "have 5 bands: choose the three"),
        (ImageReading(None, (1, 2, 3)), "samples of uint16, and nothing says.*state a scale"),
        (ImageReading("0,4095", (1, 2, 6)), "5 bands, and band 6 is asked for"),
        (ImageReading("0,4095", (1,), 2), "one page, and page 2 is asked for"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            measure(folder, asked)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="end at 7 alike"):
        measure(written(tmp_path / "b", [np.full((9, 9), 7, np.uint16)]), ImageReading("p1,p99"))


@pytest.mark.parametrize("text", ["", "1", "5,4", "p99,p1", "p1,99", "p-1,p50", "p0,p101", "nan,1",
                                  "1,inf", "0;1", "0,1,2"])  # fmt: skip
def test_no_scale(text):
    with pytest.raises(UserError, match="scale .* is none"):
        Scale.of(text)
    with pytest.raises(UserError):
        asked_reading(text)


@pytest.mark.parametrize("text", ["", "0", "1,2", "1;2;3", "a", "1,2,3,4", "-1"])
def test_no_bands(text):
    with pytest.raises(UserError, match="bands"):
        asked_reading(None, text)


def test_images_that_do_not_fit(tmp_path, rng):
    twelve = rng.integers(0, 4096, (20, 20, 3), dtype=np.uint16)
    read = measure(written(tmp_path / "a", [twelve]), ImageReading("0,4095"))
    wrong = {
        "16 bits": (twelve * 16, "do not fit the scale.*another bit depth"),
        "8 bits in 16": (twelve // 4096 + rng.integers(0, 30, (20, 20, 3), dtype=np.uint16),
                         "do not fit the scale"),
        "bytes": ((twelve >> 4).astype(np.uint8), "3 bands of uint8, but .* 3 bands of uint16"),
        "bands": (np.repeat(twelve, 2, 2), "6 bands of uint16, but"),
        "one band": (twelve[..., 0], "one band of uint16, but"),
        "float": (twelve.astype(np.float32), "of float32, but"),
    }  # fmt: skip
    for number, (array, said) in enumerate(wrong.values()):
        folder = written(tmp_path / f"wrong{number}", [array])
        with pytest.raises(ImageError, match=said) as caught:
            read_image(folder / "0.tif", reading=read)
        assert "\n" not in str(caught.value)
    # No data around a swath is no evidence of another kind.
    swath = np.zeros_like(twelve)
    swath[:2] = twelve[:2]
    found = read_image(written(tmp_path / "swath", [swath]) / "0.tif", reading=read)
    np.testing.assert_array_equal(found, expected(swath, read.black, read.white))


def test_bytes_stay_bytes_when_bands_are_chosen(tmp_path, rng):
    four = rng.integers(0, 256, (9, 8, 4), dtype=np.uint8)
    read = measure(written(tmp_path / "a", [four]), ImageReading(None, (4, 3, 2)))
    found = read_image(tmp_path / "a" / "0.tif", reading=read)
    np.testing.assert_array_equal(found, four[..., [3, 2, 1]])


def test_images_of_pillow(tmp_path, rng):
    gray = rng.integers(0, 4096, (9, 8), dtype=np.uint16)
    read = Reading("uint16", 1, (), 1, (0.0,), (4095.0,), "0,4095")
    assert cv2.imwrite(str(tmp_path / "a.png"), gray)
    with Image.open(tmp_path / "a.png") as image:
        wanted = expected(gray[..., None], read.black, read.white)
        np.testing.assert_array_equal(upright_rgb(image, read), wanted)
    with pytest.raises(ImageError, match="3 bands of uint8, but"):
        upright_rgb(Image.new("RGB", (4, 4)), read)


def test_cut_files_and_lies_are_one_line(tmp_path, rng):
    array = rng.integers(0, 4096, (40, 30, 5), dtype=np.uint16)
    read = Reading("uint16", 5, (4, 3, 2), 1, (0.0,) * 3, (4095.0,) * 3, "0,4095")
    whole = tiff(array, 2, extra=(0, 0))
    for _ in range(40):
        data = bytearray(whole)
        if rng.random() < 0.5:
            data = data[: int(rng.integers(1, len(data)))]
        for place in rng.integers(0, len(data), 3):
            data[place] = int(rng.integers(256))
        if rng.random() < 0.5 and len(data) > 160:
            data[-int(rng.integers(1, 150))] = 255
        (tmp_path / "a.tif").write_bytes(data)
        try:
            assert read_image(tmp_path / "a.tif", reading=read).dtype == np.uint8
        except UserError as error:
            assert "\n" not in str(error)


def test_smaller_copies_are_no_pages(tmp_path, rng):
    tifffile = pytest.importorskip("tifffile")
    first, second = rng.integers(0, 4096, (2, 32, 32), dtype=np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(first, subfiletype=0, metadata=None)
        file.write(first[::2, ::2], subfiletype=1, metadata=None)
        file.write(second, subfiletype=0, metadata=None)
    pages = read_pages(tmp_path / "a.tif")
    assert len(pages) == 2
    np.testing.assert_array_equal(TiffSamples(tmp_path / "a.tif", pages[1]).read()[..., 0], second)
