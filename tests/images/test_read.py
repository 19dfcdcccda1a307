from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vice.errors import UserError
from vice.images import (
    ImageError,
    list_images,
    nearest,
    read_image,
    resize,
    standardize,
    upright_rgb,
)

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)


def save(array: np.ndarray, path: Path, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_rgb_is_read_as_written(tmp_path: Path) -> None:
    read = read_image(str(save(COLOR, tmp_path / "a.png")))
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, COLOR)


def test_grey_is_repeated(tmp_path: Path) -> None:
    read = read_image(save(COLOR[..., 0], tmp_path / "a.png"))
    np.testing.assert_array_equal(read, COLOR[..., [0, 0, 0]])


def test_bilevel(tmp_path: Path) -> None:
    read = read_image(save(COLOR[..., 0] > 127, tmp_path / "a.png"))
    np.testing.assert_array_equal(read[..., 1], np.where(COLOR[..., 0] > 127, 255, 0))


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_is_laid_over_white(tmp_path: Path, channels: int) -> None:
    stored = RNG.integers(0, 256, (9, 11, channels), dtype=np.uint8)
    read = read_image(save(stored, tmp_path / "a.png")).astype(float)
    alpha = stored[..., -1:] / 255
    colour = stored[..., [0, 0, 0]] if channels == 2 else stored[..., :3]
    assert np.abs(read - (colour * alpha + 255 * (1 - alpha))).max() <= 1.5


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    flat = Image.fromarray(np.repeat(np.arange(4, dtype=np.uint8)[None] * 60, 5, axis=0))
    palette = flat.convert("RGB").quantize(4)
    palette.save(tmp_path / "opaque.png")
    read = read_image(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read[2, :, 0], [0, 60, 120, 180])
    first = palette.getpixel((0, 0))
    palette.save(tmp_path / "clear.png", transparency=first)
    np.testing.assert_array_equal(read_image(tmp_path / "clear.png")[2, :, 2], [255, 60, 120, 180])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_is_scaled_not_cut(tmp_path: Path, suffix: str) -> None:
    stored = np.linspace(0, 65535, 300).astype(np.uint16).reshape(15, 20)
    read = read_image(save(stored, tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(read[..., 0], np.rint(stored / 257.0))


@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_cmyk(tmp_path: Path, suffix: str) -> None:
    Image.new("CMYK", (16, 8), (0, 255, 255, 0)).save(tmp_path / f"a{suffix}")
    read = read_image(tmp_path / f"a{suffix}").astype(int)
    assert read.shape == (8, 16, 3)
    assert np.abs(read - [255, 0, 0]).max() <= 3


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = read_image(save(COLOR, tmp_path / "a.png", exif=exif))
    np.testing.assert_array_equal(read, UPRIGHT[orientation](COLOR))


def test_exif_orientation_of_16_bit(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.arange(12, dtype=np.uint16).reshape(3, 4) * (23 * 257)
    read = read_image(save(stored, tmp_path / "a.png", exif=exif))
    np.testing.assert_array_equal(read[..., 0], np.rot90(stored // 257, -1))


@pytest.mark.parametrize("size", [(1, 1), (10000, 50), (50, 10000)])
def test_extreme_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    stored = np.full((*size, 3), 77, np.uint8)
    read = read_image(save(stored, tmp_path / "a.png"))
    assert read.shape == (*size, 3)
    high = standardize(read)
    assert min(high.shape[:2]) == 500
    assert max(high.shape[:2]) <= 2048
    assert standardize(read, "lowres").shape == (320, 320, 3)
    assert (high == 77).all()


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder, and not an image file"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match=r"gone\.jpg.*no such"):
        read_image(tmp_path / "gone.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match=r"empty\.jpg.*empty"):
        read_image(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    with pytest.raises(ImageError, match=r"text\.jpg"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(ImageError):
        read_image(tmp_path)
    assert issubclass(ImageError, UserError)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_every_truncation_is_an_image_error_or_readable(tmp_path: Path, form: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (24, 31, 3), dtype=np.uint8)).save(buffer, form)
    whole = buffer.getvalue()
    path = tmp_path / "cut"
    failures = 0
    for length in np.linspace(1, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        try:
            assert read_image(path).shape == (24, 31, 3)
        except ImageError as error:
            failures += 1
            assert str(path) in str(error)
    assert failures > 5
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="cut"):
        read_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_flipped_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    for form in ("PNG", "JPEG", "TIFF"):
        buffer = io.BytesIO()
        Image.fromarray(COLOR).save(buffer, form)
        for _ in range(40):
            broken = bytearray(buffer.getvalue())
            for index in RNG.integers(8, len(broken), 6):
                broken[index] = RNG.integers(256)
            (tmp_path / "x").write_bytes(broken)
            with contextlib.suppress(ImageError):
                assert read_image(tmp_path / "x").ndim == 3


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(COLOR, tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    # Pillow refuses from twice its limit on.
    said = r"bomb\.png: its 221 pixels exceed the limit of 100; shrink.*MAX_IMAGE_PIXELS"
    with pytest.raises(ImageError, match=said):
        read_image(path)


def make_tree(folder: Path) -> list[Path]:
    names = ["b.JPG", "a.png", "sub/c.TIFF", "sub/deep/d.webp", "z.jpeg"]
    for name in [*names, "notes.txt", "._a.png", ".git/e.png", "noimage.jpg.md"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return sorted(folder / name for name in names)


def test_list_folder(tmp_path: Path) -> None:
    expected = make_tree(tmp_path)
    assert list_images(tmp_path) == expected
    assert list_images(str(tmp_path)) == expected
    assert list_images(tmp_path / "a.png") == [tmp_path / "a.png"]


def test_list_folder_follows_links_and_ends(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    make_tree(inside)
    outside.mkdir()
    (outside / "linked.png").touch()
    (inside / "link").symlink_to(outside)
    (outside / "back").symlink_to(inside)
    found = list_images(inside)
    assert inside / "link" / "linked.png" in found
    assert len(found) == 6


def test_list_file(tmp_path: Path) -> None:
    make_tree(tmp_path)
    listing = tmp_path / "list.txt"
    absolute = tmp_path / "sub" / "c.TIFF"
    listing.write_bytes(f"\ufeffz.jpeg\r\n\r\n a.png \n{absolute}\nmissing.png\n".encode())
    expected = [tmp_path / "z.jpeg", tmp_path / "a.png", absolute, tmp_path / "missing.png"]
    assert list_images(listing) == expected
    listing.write_text("deep/d.webp\n")
    assert list_images(listing, root=tmp_path / "sub") == [tmp_path / "sub/deep/d.webp"]


def test_list_errors_name_path_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*check the path"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "dir").mkdir()
    with pytest.raises(UserError, match=r"dir.*known suffixes.*\.png"):
        list_images(tmp_path / "dir")
    listing = tmp_path / "list.txt"
    listing.write_text("\n \n")
    with pytest.raises(UserError, match=r"list\.txt.*empty"):
        list_images(listing)
    listing.write_text("gone.png\nalso_gone.png\n")
    with pytest.raises(UserError, match=r"list\.txt.*2 images.*gone\.png.*root"):
        list_images(listing)
    listing.write_bytes(b"\xff\x00\x80")
    with pytest.raises(UserError, match=r"list\.txt.*one path a line"):
        list_images(listing)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 90), st.integers(0, 900))
def test_highres_sizes(height: int, width: int, min_side: int, room: int) -> None:
    max_side = min_side + room
    image = np.zeros((height, width, 3), np.uint8)
    new = standardize(image, min_side=min_side, max_side=max_side).shape[:2]
    assert min(new) >= min_side
    assert max(new) <= max_side
    if min(height, width) >= min_side and max(height, width) <= max_side:
        assert new == (height, width)
    ratio = max(height, width) / min(height, width)
    if ratio <= max_side / min_side:  # then nothing needs padding, the shape is kept
        assert abs(new[0] * width - new[1] * height) <= 0.5 * (height + width)


def test_highres_pads_with_the_mirror_image_on_both_sides() -> None:
    image = np.repeat(np.arange(4, dtype=np.uint8)[:, None, None] + 1, 40, axis=1)
    padded = standardize(image, min_side=10, max_side=40)
    assert padded.shape == (10, 40, 1)
    assert padded[:, 7, 0].tolist() == [3, 2, 1, 1, 2, 3, 4, 4, 3, 2]


def test_lowres_takes_the_centre_square() -> None:
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 30:70] = 200
    assert (standardize(image, "lowres", square=20) == 200).all()
    assert (standardize(image.transpose(1, 0, 2), "lowres", square=80) == 200).all()


def test_shrinking_is_anti_aliased_on_either_axis() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize(stripes, 64, 16).astype(int) - 128).max() <= 1
    assert np.abs(resize(stripes, 256, 16).astype(int) - 128).max() <= 1
    np.testing.assert_array_equal(resize(stripes, 64, 64), stripes)


def test_resize_matches_pillow() -> None:
    smooth = np.asarray(Image.fromarray(COLOR).resize((90, 80), Image.Resampling.BICUBIC))
    small = resize(smooth, 40, 45).astype(int)
    box = np.asarray(Image.fromarray(smooth).resize((45, 40), Image.Resampling.BOX)).astype(int)
    assert np.abs(small - box).max() <= 1
    large = resize(smooth, 200, 180).astype(int)
    cubic = np.asarray(Image.fromarray(smooth).resize((180, 200), Image.Resampling.BICUBIC))
    assert np.abs(large - cubic).mean() < 1.5


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_nearest_takes_the_pixel_under_the_centre(length: int, new_length: int) -> None:
    expected = np.floor((np.arange(new_length) + 0.5) * (length / new_length) + 1e-9)
    np.testing.assert_array_equal(nearest(length, new_length), expected)


def test_label_maps_keep_their_values() -> None:
    labels = RNG.choice(np.array([0, 7, 255, 60000], np.int32), (30, 50))
    for mode in ("highres", "lowres"):
        new = standardize(labels, mode, interpolation="nearest")
        assert new.dtype == np.int32
        assert new.ndim == 2
        assert set(np.unique(new)) <= {0, 7, 255, 60000}


def test_none_and_bad_options() -> None:
    assert standardize(COLOR, "none") is COLOR
    with pytest.raises(UserError, match="unknown mode 'big'"):
        standardize(COLOR, "big")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="min_side"):
        standardize(COLOR, min_side=10, max_side=5)
    with pytest.raises(UserError, match="unknown interpolation 'lanczos'"):
        resize(COLOR, 5, 5, "lanczos")  # type: ignore[arg-type]
    for name in ("bilinear", "bicubic", "area", "nearest"):
        assert resize(COLOR, 5, 9, name).shape == (5, 9, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
def test_pixels_as_they_are_stored(tmp_path, rng, orientation, suffix):
    """Pillow turns TIFF files by itself, and no others."""
    stored = np.repeat(np.repeat(rng.integers(0, 256, (3, 4), dtype=np.uint8), 8, 0), 8, 1)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}", exif=exif, quality=100)
    found = read_image(tmp_path / f"a.{suffix}", upright=False)[..., 0]
    assert found.shape == stored.shape
    assert np.abs(found.astype(int) - stored).max() <= (3 if suffix == "jpg" else 0)
    wanted = UPRIGHT[orientation](stored[..., None])[..., 0].astype(int)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        for shown in (read_image(tmp_path / f"a.{suffix}"), upright_rgb(image)):
            assert np.abs(shown[..., 0] - wanted).max() <= (3 if suffix == "jpg" else 0)


def test_what_is_no_file_is_called_what_it_is(tmp_path):
    link, pipe = tmp_path / "link.png", tmp_path / "pipe.png"
    link.symlink_to(tmp_path / "gone.png")
    os.mkfifo(pipe)
    said = {
        link: "is a link to a file that is not there; mend or remove it",
        pipe: "is no ordinary file, but a pipe, socket or device",
        tmp_path / "none.png": "no such image file; check the path",
        tmp_path: "is a folder, and not an image file",
    }
    for path, words in said.items():
        with pytest.raises(ImageError, match=words):
            read_image(path)
