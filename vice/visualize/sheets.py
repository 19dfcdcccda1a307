"""Pictures laid out in rows with titles, and written as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vice.runtime.files import make_folder, replace_atomically

PAPER = (255, 255, 255)
INK = (40, 40, 40)
# Aspect limit: a panorama of 10,000 x 50 must not make a sheet 50,000 pixels wide.
WIDEST = 4


def save_png(picture: np.ndarray, path: str | Path, *, quickly: bool = False) -> Path:
    """Writes a uint8 picture, RGB (H, W, 3) or (H, W), as PNG in one step.

    Args:
        picture: The picture.
        path: The file.
        quickly: For photographs: zlib's first level takes 0.4 of the time and makes no larger
            files of them; of maps of few numbers it does.

    Returns:
        The path; its folder is made.

    Raises:
        UserError: The folder cannot be written or the disk is full.
    """
    path = Path(path)
    image = Image.fromarray(np.ascontiguousarray(picture))
    make_folder(path.parent)
    # Format by name, since the file is written under another suffix first.
    level = {"compress_level": 1} if quickly else {}
    replace_atomically(path, lambda new: image.save(new, format="PNG", optimize=False, **level))
    return path


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str] | None = None,
    *,
    row_titles: Sequence[str] | None = None,
    height: int | None = None,
    gap: int = 6,
) -> np.ndarray:
    """Lays pictures out in rows and columns.

    Args:
        rows: uint8 RGB pictures (H, W, 3); rows may differ in length, pictures in size.
        titles: One title for each column.
        row_titles: One title for each row, above its first picture.
        height: Height of each cell in pixels; None takes the tallest picture's, at most 320.
        gap: Space between cells in pixels.

    Returns:
        uint8 RGB on white. Every picture keeps its aspect ratio; one more than four times as wide
        as high is lower than the others.

    Raises:
        ValueError: There are no pictures, or not one title for each column or row.
    """
    if not any(len(row) for row in rows):
        raise ValueError("a contact sheet needs at least one picture")
    if titles is not None and len(titles) != max(len(row) for row in rows):
        raise ValueError(f"{len(titles)} titles for {max(len(row) for row in rows)} columns")
    if row_titles is not None and len(row_titles) != len(rows):
        raise ValueError(f"{len(row_titles)} titles for {len(rows)} rows")
    height = height or min(320, max(picture.shape[0] for row in rows for picture in row))
    cells = [[fit(picture, height) for picture in row] for row in rows]
    widths = [
        max(row[column].shape[1] for row in cells if column < len(row))
        for column in range(max(len(row) for row in cells))
    ]
    return _paste(cells, widths, height, gap, titles, row_titles)


def fit(picture: np.ndarray, height: int, *, smooth: bool = False) -> np.ndarray:
    """Resizes a uint8 RGB picture to ``height`` pixels, or less where it would be too wide.

    The width stays within ``WIDEST`` heights. Enlarging keeps its pixels square unless it is to
    be ``smooth``.
    """
    scale = fit_scale(picture.shape, height)
    if scale == 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    blocks = scale > 1 and not smooth
    method = Image.Resampling.NEAREST if blocks else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize(size, method))


def fit_scale(shape: Sequence[int], height: int) -> float:
    """Returns the factor by which `fit` resizes a picture of (H, W, ...)."""
    return min(height / shape[0], WIDEST * height / shape[1])


def font(size: int = 13) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Returns Pillow's own font, the same on each machine."""
    return ImageFont.load_default(size)


def _paste(
    cells: list[list[np.ndarray]],
    widths: list[int],
    height: int,
    gap: int,
    titles: Sequence[str] | None,
    row_titles: Sequence[str] | None,
) -> np.ndarray:
    line = 20
    above = line if row_titles is not None else 0
    top = gap + (line if titles is not None else 0)
    size = (
        sum(widths) + gap * (len(widths) + 1),
        top + len(cells) * (above + height + gap),
    )
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [gap + sum(widths[:k]) + gap * k for k in range(len(widths))]
    for title, left in zip(titles or (), lefts, strict=False):
        draw.text((left, gap // 2), title, INK, font())
    for index, row in enumerate(cells):
        y = top + index * (above + height + gap)
        if row_titles is not None:
            draw.text((lefts[0], y), row_titles[index], INK, font())
        for picture, left in zip(row, lefts, strict=False):
            sheet.paste(Image.fromarray(picture), (left, y + above))
    return np.asarray(sheet)


def legend(names: Sequence[str], colors: np.ndarray, width: int = 640) -> np.ndarray:
    """Draws a coloured square and a name for each class, in lines of at most ``width`` pixels."""
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    places, x, y = [], 6, 4
    for name in names:
        needed = 30 + int(ruler.textlength(name, font()))
        if x > 6 and x + needed > width:
            x, y = 6, y + 22
        places.append((x, y))
        x += needed
    sheet = Image.new("RGB", (width, y + 22), PAPER)
    draw = ImageDraw.Draw(sheet)
    for name, color, (left, top) in zip(names, colors, places, strict=True):
        draw.rectangle((left, top, left + 13, top + 13), tuple(int(c) for c in color))
        draw.text((left + 18, top - 1), name, INK, font())
    return np.asarray(sheet)
