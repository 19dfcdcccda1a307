"""Samples of an image file as they are stored, of any format, before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vice.images.picture_formats import MAX_PIXELS, open_picture
from vice.images.pixel_formats import Source, UnclearPixels, has_16_bit_colors, samples_of_16_bit
from vice.images.tiff_layout import objection
from vice.images.tiff_pages import Span, TiffPage, TiffSamples, UnreadableTiff, read_pages

if TYPE_CHECKING:
    from PIL import Image

#: EXIF's orientations to what turns an array of stored pixels upright.
_TURNS: dict[int, Any] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
_ORIENTATION = 274
_STATED_ALPHA = (1, 2)
_PREMULTIPLIED = 1


@dataclass(frozen=True)
class Samples:
    """Samples of one page.

    Attributes:
        values: (H, W, C), of the type in which they are stored, upright where that is asked for.
        stored: Number of bands of the file, of which ``values`` may be some.
        bits: Of a sample as stored.
        alpha: Share of a pixel that covers what is below, float32 (H, W) in [0, 1]; None where all
            of it does.
        alpha_band: Which band it is, from 0; None where it is none of them.
        pages: How many pages there are.
    """

    values: np.ndarray
    stored: int
    bits: int
    alpha: np.ndarray | None = None
    alpha_band: int | None = None
    pages: int = 1

    @property
    def dtype(self) -> str:
        """Name of NumPy's type of a sample, for example ``"uint16"``."""
        return self.values.dtype.name


def read_samples(
    path: str | Path,
    *,
    page: int = 1,
    bands: tuple[int, ...] = (),
    upright: bool = True,
    max_pixels: int | None = None,
    check: Callable[[str, int], None] | None = None,
) -> Samples:
    """Reads the samples of a file.

    Args:
        path: The file.
        page: Which page, from 1.
        bands: Which bands, from 1, in which order; empty for all, without an alpha.
        upright: Whether they are turned as the orientation of the file says.
        max_pixels: Most pixels; None for ``MAX_PIXELS``.
        check: Given the type of the samples and the number of bands of the file, before bands are
            chosen; may raise.

    Raises:
        UnclearPixels: There is no such page or band, or the file stores them in a way that is not
            read.
        OSError: It cannot be read.
    """
    pages = read_pages(path)
    if pages is not None:
        chosen = _page(pages, page)
        found = _of_tiff(path, chosen, len(pages), bands, upright, max_pixels, check)
        if found is not None:
            return found
        unclear = objection(chosen.layout)
        if unclear:
            raise UnclearPixels(unclear)
        found = _of_pillow(path, chosen.number, bands, upright, max_pixels, check)
        return replace(found, pages=len(pages))
    return _of_pillow(path, page - 1, bands, upright, max_pixels, check)


def samples_of_picture(
    image: Image.Image, bands: tuple[int, ...] = (), *, again: Callable[[], Image.Image]
) -> Samples:
    """Samples of an image of Pillow, as `read_samples` gives those of its file.

    Args:
        image: Of any mode.
        bands: As there.
        again: Opens its file once more.

    Raises:
        UnclearPixels: There is no such band, or it is of a mode that is not read.
    """
    return _chosen(Source(image, again, None, True), bands, 1)


def header_size(
    path: str | Path, page: int = 1, max_pixels: int | None = None, *, turn: bool = True
) -> tuple[Span, int]:
    """Height and width of a page as stored, and its orientation (1 to 8).

    Args:
        path: The file.
        page: Which page, from 1.
        max_pixels: Most pixels; None for Pillow's limit.
        turn: Whether the orientation is looked for, which Pillow decodes some files for; 1 without.

    Raises:
        UnclearPixels: There is no such page.
        OSError: It cannot be read.
    """
    pages = read_pages(path)
    if pages is not None:
        chosen = _page(pages, page)
        stated = chosen.layout.orientation
        return chosen.size, stated if stated in range(1, 9) else 1
    with open_picture(path, max_pixels) as image:
        stated = int(image.getexif().get(_ORIENTATION, 1)) if turn else 1
        return (image.height, image.width), stated if stated in range(1, 9) else 1


def open_windows(path: str | Path, page: int) -> TiffSamples | None:
    """A page of a TIFF file that can be read window by window; None for all other files.

    Raises:
        UnclearPixels: There is no such page.
    """
    try:
        pages = read_pages(path)
        if pages is None:
            return None
        chosen = _page(pages, page)
        samples = TiffSamples(path, chosen)
    except (OSError, UnreadableTiff):
        return None
    whole = chosen.layout.orientation != 1 or chosen.layout.white_is_zero
    return None if whole or alpha_band(chosen) is not None else samples


def alpha_band(page: TiffPage) -> int | None:
    """Which band of a page its tags call alpha, from 0; None for none.

    Raises:
        UnclearPixels: Its colors are multiplied by alpha.
    """
    layout = page.layout
    first = layout.bands - len(layout.extra)
    stated = [first + k for k, kind in enumerate(layout.extra) if kind in _STATED_ALPHA]
    if not stated or first < 1:
        return None
    if _PREMULTIPLIED in layout.extra:
        raise UnclearPixels(
            "its values are multiplied by its alpha, and no scale means anything on them: write it "
            "without alpha, or with one of its own (ExtraSamples=2)"
        )
    return stated[0]


def _page(pages: list[TiffPage], page: int) -> TiffPage:
    if page > len(pages):
        raise _no_page(page, len(pages))
    return pages[page - 1]


def _no_page(page: int, pages: int) -> UnclearPixels:
    held = "one page" if pages == 1 else f"{pages} pages"
    return UnclearPixels(f"it has {held}, and page {page} is asked for: choose one that is there")


def check_size(size: Span, max_pixels: int | None) -> None:
    """Refuses more pixels than are read.

    Raises:
        PIL.Image.DecompressionBombError: Too many.
    """
    from PIL import Image

    most = MAX_PIXELS if max_pixels is None else max_pixels
    if size[0] * size[1] > most:
        raise Image.DecompressionBombError(
            f"its {size[0] * size[1]} pixels exceed the limit of {most}"
        )


def _of_tiff(
    path: str | Path,
    page: TiffPage,
    pages: int,
    bands: tuple[int, ...],
    upright: bool,
    max_pixels: int | None,
    check: Callable[[str, int], None] | None,
) -> Samples | None:
    """Samples of a TIFF page; None where Pillow is asked instead: loss, palettes."""
    try:
        samples = TiffSamples(path, page)
    except UnreadableTiff:
        return None
    if page.layout.white_is_zero and samples.bits == 8:
        # Pillow counts up from black.
        return None
    if page.layout.white_is_zero:
        raise UnclearPixels(
            "its values count down from white (PhotometricInterpretation=0), which no scale says "
            "where to begin: write it with black as zero"
        )
    check_size(samples.size, max_pixels)
    if check is not None:
        check(samples.dtype.name, samples.bands)
    band = alpha_band(page)
    wanted = _wanted(bands, samples.bands, band)
    values = samples.read(bands=wanted)
    alpha = None
    if band is not None and not bands:
        alpha = _share(samples.read(bands=[band])[..., 0], samples.bits)
    turn = _turn(page.layout.orientation if upright else 1)
    values, alpha = turn(values), None if alpha is None else turn(alpha)
    return Samples(values, samples.bands, samples.bits, alpha, band, pages)


def _wanted(bands: tuple[int, ...], stored: int, alpha: int | None) -> list[int]:
    """Indices of the bands that are read."""
    if not bands:
        return [band for band in range(stored) if band != alpha]
    if max(bands) > stored:
        held = "one band" if stored == 1 else f"{stored} bands"
        raise UnclearPixels(
            f"it has {held}, and band {max(bands)} is asked for: choose bands that are there"
        )
    return [band - 1 for band in bands]


def _share(alpha: np.ndarray, bits: int) -> np.ndarray:
    if alpha.dtype.kind == "f":
        return np.clip(np.nan_to_num(alpha.astype(np.float32)), 0, 1)
    most = 2 ** (bits - (alpha.dtype.kind == "i")) - 1
    return np.clip(alpha / np.float32(most), 0, 1).astype(np.float32)


def _turn(orientation: int) -> Any:
    return _TURNS.get(orientation, lambda array: array)


def _of_pillow(
    path: str | Path,
    frame: int,
    bands: tuple[int, ...],
    upright: bool,
    max_pixels: int | None,
    check: Callable[[str, int], None] | None,
) -> Samples:
    def reopen() -> Image.Image:
        image = open_picture(path, max_pixels)
        if frame:
            image.seek(frame)
        return image

    with open_picture(path, max_pixels) as image:
        pages = int(getattr(image, "n_frames", 1))
        # Multi-picture JPEG: a phone's holds a preview or a depth map as its second.
        pages = 1 if image.format in ("JPEG", "MPO") else pages
    if frame >= pages:
        raise _no_page(frame + 1, pages)
    with reopen() as image:
        return _chosen(Source(image, reopen, None, upright), bands, pages, check)


def _chosen(
    source: Source,
    bands: tuple[int, ...],
    pages: int,
    check: Callable[[str, int], None] | None = None,
) -> Samples:
    values, bits, alpha, band = _values(source)
    stored = values.shape[2] + (band is not None)
    if check is not None:
        check(values.dtype.name, stored)
    if bands and band is not None and alpha is not None:
        # Alpha by number is a band like others.
        most = np.iinfo(values.dtype).max
        whole = np.rint(alpha[..., None] * most).astype(values.dtype)
        values = np.concatenate([values, whole], axis=2)
    chosen = values[..., _wanted(bands, stored, None)] if bands else values
    return Samples(chosen, stored, bits, None if bands else alpha, band, pages)


def _values(source: Source) -> tuple[np.ndarray, int, np.ndarray | None, int | None]:
    """Values (H, W, C), their bits, alpha, and whether it is a band of the file."""
    image = source.image
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):
        values = source.values().astype(np.uint16)[..., None]
        return values, 16, _keyed(values, image.info.get("transparency")), None
    if mode == "F":
        return source.values()[..., None], 32, None, None
    if mode == "I":
        raise UnclearPixels("its integers of 32 bits are read from TIFF files alone")
    if has_16_bit_colors(image):
        key = image.info.get("transparency")
        samples = samples_of_16_bit(source)
        if samples.shape[2] in (2, 4):
            return samples[..., :-1], 16, _share(samples[..., -1], 16), samples.shape[2] - 1
        return samples, 16, _keyed(samples, key), None
    return _eight_bits(source)


def _eight_bits(source: Source) -> tuple[np.ndarray, int, np.ndarray | None, int | None]:
    image = source.turned()
    is_band = image.mode in ("LA", "RGBA")
    if image.mode in ("La", "RGBa"):
        raise UnclearPixels("its values are multiplied by its alpha: write it without")
    gray = image.mode in ("1", "L", "LA")
    if is_band or "transparency" in image.info or image.mode == "PA":
        # Palette or key: only its colors say which pixels are transparent.
        values = np.asarray(image.convert("LA" if gray else "RGBA"))
        band = values.shape[2] - 1 if is_band else None
        return values[..., :-1], 8, _share(values[..., -1], 8), band
    values = np.asarray(image.convert("L" if gray else "RGB"))
    return values.reshape(*values.shape[:2], -1), 8, None, None


def _keyed(values: np.ndarray, key: Any) -> np.ndarray | None:
    """Alpha of values of which one color is transparent."""
    if not isinstance(key, int | tuple):
        return None
    wanted = np.asarray(key).reshape(-1)
    if wanted.size != values.shape[2]:
        return None
    return 1 - (values == wanted).all(2).astype(np.float32)
