"""Which pixels are read, as what, and which are refused since nothing says what they mean."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers.tiffs import tiff
from vice.images import FormatError, ImageError, check_format, decode_image, read_image, upright_rgb
from vice.images.pixel_scale import UnclearPixels, white_of_16_bit

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 65536, (17, 23, 4), dtype=np.uint16)
SHALLOW = (DEEP >> 8).astype(np.uint8)
GRAY = DEEP[..., 0]


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def png(folder: Path, array: np.ndarray, sbit: bytes = b"") -> Path:
    """A PNG of 8 or 16 bits by OpenCV, with a chunk sBIT if given."""
    swapped = array if array.ndim == 2 else array[..., [2, 1, 0, 3][: array.shape[2]]]
    data = cv2.imencode(".png", np.ascontiguousarray(swapped))[1].tobytes()
    chunk = struct.pack(">I", len(sbit)) + b"sBIT" + sbit
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    return put(folder / "a.png", data[:33] + (chunk if sbit else b"") + data[33:])


def over_white(samples: np.ndarray) -> np.ndarray:
    alpha = samples[..., -1:] / 65535
    return np.rint((samples[..., :-1] * alpha + 65535 * (1 - alpha)) / 257)


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_16_bit_png_keeps_its_low_bytes(tmp_path: Path, bands: int) -> None:
    samples = GRAY if bands == 1 else DEEP[..., :bands]
    wanted = over_white(samples) if bands == 4 else np.rint(samples / 257)
    wanted = wanted.reshape(17, 23, -1) * np.ones(3)
    np.testing.assert_array_equal(read_image(png(tmp_path, samples)), wanted)
    # The same samples as a camera of 12 bits leaves them: Pillow's high bytes are 16 grey levels.
    with pytest.raises(FormatError, match=r"a\.png: its 16-bit samples end at 40\d\d.*convert"):
        read_image(png(tmp_path, samples >> 4))


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("extra", [(), (1,), (2,)])
def test_16_bit_tiff_in_color(tmp_path: Path, extra: tuple[int, ...], big_endian: bool) -> None:
    samples = DEEP if extra else DEEP[..., :3]
    wanted = over_white(samples) if extra else np.rint(samples / 257)
    if extra == (1,):
        share = samples[..., 3:] / 65535
        samples = np.concatenate([np.rint(samples[..., :3] * share), samples[..., 3:]], 2)
    file = tiff(samples.astype(np.uint16), 2, extra=extra, big_endian=big_endian)
    read = read_image(put(tmp_path / "a.tif", file)).astype(int)
    assert np.abs(read - wanted).max() <= (1 if extra == (1,) else 0)


def test_grey_counted_down_from_white(tmp_path: Path) -> None:
    read = read_image(put(tmp_path / "a.tif", tiff(GRAY, 0)))
    np.testing.assert_array_equal(read[..., 1], np.rint((65535.0 - GRAY) / 257))
    read = read_image(put(tmp_path / "a.tif", tiff(SHALLOW[..., 0], 0)))
    np.testing.assert_array_equal(read[..., 1], 255 - SHALLOW[..., 0])


def test_a_stated_scale_is_used(tmp_path: Path) -> None:
    twelve = RNG.integers(0, 1000, (6, 8), dtype=np.uint16)
    wanted = np.rint(twelve * (255 / 4095))
    read = read_image(put(tmp_path / "a.tif", tiff(twelve, 1, bits=12)))
    np.testing.assert_array_equal(read[..., 0], wanted)
    pgm = b"P5\n8 6\n4095\n" + twelve.astype(">u2").tobytes()
    assert np.abs(read_image(put(tmp_path / "a.pgm", pgm))[..., 0] - wanted).max() <= 1
    np.testing.assert_array_equal(read_image(png(tmp_path, twelve, b"\x0c"))[..., 0], wanted)
    # PNG wants samples scaled up to 16 bits, by shifting or by multiplying.
    for full in (twelve << 4, np.rint(twelve * (65535 / 4095)).astype(np.uint16)):
        read = read_image(png(tmp_path, full, b"\x0c"))
        np.testing.assert_array_equal(read[..., 0], np.rint(full / 257))
    with pytest.raises(FormatError, match="states 12 significant bits"):
        read_image(png(tmp_path, twelve + 6001, b"\x0c"))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15])
def test_a_maxval_of_65535_states_no_scale(tmp_path: Path, bits: int) -> None:
    samples = (DEEP[..., :3] >> (16 - bits)).astype(">u2")
    for kind, array in ((b"P5", samples[..., 0]), (b"P6", samples)):
        with pytest.raises(FormatError, match=r"a\.pgm: its 16-bit samples end at"):
            read_image(put(tmp_path / "a.pgm", kind + b"\n23 17\n65535\n" + array.tobytes()))


def test_white_of_16_bits() -> None:
    full = np.linspace(0, 65535, 5000).astype(np.uint16)
    assert white_of_16_bit(full) == 65535
    assert white_of_16_bit(np.zeros(9, np.uint16)) == 65535, "black is black on every scale"
    hot = np.append(full >> 4, np.uint16(65535))
    with pytest.raises(UnclearPixels, match="but for one in a thousand"):
        white_of_16_bit(hot)
    with pytest.raises(UnclearPixels, match="14 would hold them"):
        white_of_16_bit(full >> 2)


def test_transparent_color_of_16_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(GRAY).save(path, transparency=int(GRAY[2, 3]))
    wanted = np.where(GRAY[2, 3] == GRAY, 255, np.rint(GRAY / 257))
    np.testing.assert_array_equal(read_image(path)[..., 0], wanted)


#: What is wrong, by TIFF file: bands first.
UNCLEAR: dict[str, tuple[bytes, str]] = {
    "infrared": (tiff(SHALLOW, 2), "4 bands, of which RGB takes 3.*is missing.*ExtraSamples=2"),
    "unspecified": (tiff(SHALLOW, 2, extra=(0,)), r"4 bands.*has the values \[0\]"),
    "grey-and-more": (tiff(SHALLOW[..., :2], 1), "2 bands"),
    "three-grey": (tiff(SHALLOW[..., :3], 1), "3 bands, of which grey takes 1"),
    "13-bands": (tiff(np.repeat(SHALLOW[..., :1], 13, 2), 1, extra=(0,) * 12), "13 bands"),
    "13-planes": (
        tiff(np.repeat(SHALLOW[..., :1], 13, 2), 1, extra=(0,) * 12, planar=2),
        "13 bands",
    ),
    "16-bit-planes": (tiff(DEEP[..., :3], 2, planar=2), "separate planes"),
    "signed": (tiff(GRAY.astype(np.int16), 1), "signed 16-bit"),
    "signed-8": (tiff(SHALLOW[..., 0].astype(np.int8), 1), "signed 8-bit"),
    "int32": (tiff(GRAY.astype(np.int32), 1), "signed 32-bit"),
    "uint32": (tiff(SHALLOW[..., 0].astype(np.uint32), 1), "unsigned 32-bit"),
    "float16": (tiff(np.linspace(0, 1, 12, dtype=np.float16).reshape(3, 4), 1), "float 16-bit"),
    "float64": (tiff(np.linspace(0, 1, 12).reshape(3, 4), 1), "float 64-bit"),
    "complex": (tiff(np.ones((3, 4), np.complex64), 1), "complex"),
    "lab": (tiff(SHALLOW[..., :3], 8), "CIELab"),
    "sensor": (tiff(GRAY, 32803), "mosaic of a camera's sensor"),
    "no-photometric": (tiff(SHALLOW[..., 0], None), "PhotometricInterpretation is missing"),
    "inks": (tiff(SHALLOW, 5, tags={332: (2,)}), "inks other than CMYK"),
    "cmyk-16": (tiff(DEEP, 5), "unsigned 16-bit"),
    "thumbnail": (tiff(SHALLOW[..., :3], 2, tags={254: (1,)}), "camera raw"),
    "stack": (tiff(SHALLOW[..., 0], 1, pages=3), "several grey pages"),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_unclear_tiff(tmp_path: Path, name: str) -> None:
    data, message = UNCLEAR[name]
    with pytest.raises(FormatError, match=rf"{name}\.tif: .*{message}"):
        read_image(put(tmp_path / f"{name}.tif", data))


def test_good_neighbors_of_unclear_tiff(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    grey = SHALLOW[..., 0]
    for data in (tiff(SHALLOW[..., :3], 2, planar=2), tiff(SHALLOW[..., :3], 2, pages=3)):
        np.testing.assert_array_equal(read_image(put(path, data)), SHALLOW[..., :3])
    # A smaller copy of the page follows, as in tiled maps.
    np.testing.assert_array_equal(read_image(put(path, tiff(grey, 1)))[..., 2], grey)
    assert "first frame" in decode_image(put(path, tiff(SHALLOW[..., :3], 2, pages=2))).notes[0]
    for extra, form in (((2,), "RGB with alpha, 8 bits"), ((1,), "RGB with alpha, 8 bits")):
        assert decode_image(put(path, tiff(SHALLOW, 2, extra=extra))).form == form
    for extra in ((1,), (2,)):
        assert read_image(put(path, tiff(SHALLOW[..., :2], 1, extra=extra))).shape == (17, 23, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0, 255]], r"\[0, 255\]"),
        ([[-0.1, 1]], r"\[-0\.1, 1\]"),
        ([[0.0, 0.3]], r"\[0, 0\.3\]"),
        ([[np.nan, np.nan]], "all of its samples are NaN"),
        ([[0.5, np.inf]], "1 of 2 of its samples are NaN or infinite"),
        ([[1e30, 1]], "1e"),
    ],
)
def test_unclear_floats(tmp_path: Path, values: list[list[float]], message: str) -> None:
    with pytest.raises(FormatError, match=rf"a\.tif: .*{message}"):
        read_image(put(tmp_path / "a.tif", tiff(np.array(values, np.float32), 1)))


def test_floats_from_0_to_1(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    read = read_image(put(tmp_path / "a.tif", tiff(ramp, 1)))
    np.testing.assert_array_equal(read[..., 0], np.rint(ramp * 255))
    assert not read_image(put(tmp_path / "a.tif", tiff(ramp * 0, 1))).any()


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (bytes(128) + b"DICM", "DICOM"),
        (b"v/1\x01", "OpenEXR"),
        (b"\x93NUMPY", "NumPy"),
    ],
)
def test_foreign_formats_are_named(tmp_path: Path, head: bytes, name: str) -> None:
    with pytest.raises(ImageError, match=rf"a\.png: an? {name}.* is not read: convert"):
        read_image(put(tmp_path / "a.png", head + bytes(200)))


def test_what_was_found_is_said(tmp_path: Path) -> None:
    found = decode_image(png(tmp_path, DEEP[..., :3]))
    assert (found.form, found.span) == ("RGB, 16 bits", (DEEP[..., :3].min(), DEEP[..., :3].max()))
    Image.fromarray(SHALLOW[..., :3]).save(tmp_path / "b.jpg", icc_profile=b"Display P3")
    assert "profile" in decode_image(tmp_path / "b.jpg").notes[0]
    Image.new("CMYK", (3, 3)).save(tmp_path / "c.jpg")
    assert decode_image(tmp_path / "c.jpg").form == "CMYK, 8 bits"


def test_images_of_pillow_and_arrays(tmp_path: Path) -> None:
    path = png(tmp_path, DEEP[..., :3])
    np.testing.assert_array_equal(upright_rgb(Image.open(path)), np.rint(DEEP[..., :3] / 257))
    loaded = Image.open(path)
    loaded.load()
    with pytest.raises(FormatError, match="give the path"):
        upright_rgb(loaded)
    with pytest.raises(FormatError, match="4 bands"):
        upright_rgb(Image.open(put(tmp_path / "a.tif", tiff(SHALLOW, 2))))
    with pytest.raises(FormatError, match="mode I"):
        upright_rgb(Image.fromarray(GRAY.astype(np.int32)))
    with pytest.raises(FormatError, match="mode F"):
        upright_rgb(Image.fromarray(GRAY.astype(np.float32)))
    np.testing.assert_array_equal(upright_rgb(Image.fromarray(SHALLOW[..., :3])), SHALLOW[..., :3])


def test_a_labelled_set_refuses_by_headers_alone(tmp_path: Path) -> None:
    for name in ("foreign.png", "gone.png"):
        check_format(tmp_path / name)
    put(tmp_path / "foreign.png", bytes(128) + b"DICM" + bytes(99))
    with pytest.raises(FormatError, match=r"foreign\.png: a DICOM file"):
        check_format(tmp_path / "foreign.png")
    with pytest.raises(FormatError, match="13 bands"):
        check_format(put(tmp_path / "a.tif", UNCLEAR["13-bands"][0]))
    check_format(png(tmp_path, GRAY >> 4))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_tiff_that_is_cut_off_is_not_blamed_for_a_missing_tag(tmp_path, compression) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(SHALLOW[..., :3]).save(path, compression=compression)
    whole = path.read_bytes()
    # The tags stand at the end of such a file.
    with pytest.raises(ImageError, match="cannot be read as an image"):
        read_image(put(path, whole[: len(whole) * 3 // 5]))
