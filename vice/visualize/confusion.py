"""A confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vice.names import printable
from vice.visualize.sheets import INK, PAPER, font, save_png

#: Characters of a class's name, and of a line of the heading, that are shown.
_LONGEST, _LONGEST_LINE = 40, 160
#: Side of a class's square, space between parts, width and least height of the scale; in pixels.
_SIDE, _GAP, _BAR, _SCALE = 30, 10, 16, 120
#: Sizes of text: heading, names of the axes and scale, classes, numbers.
_HEADING, _AXIS, _NAME, _NUMBER = 14, 13, 12, 11
#: Share, in percent, from which a number stands in its square, and from which it is white.
_SHOWN, _DARK = 1, 55
#: Colors of 0 to 100 %, evenly spaced: "Blues" of ColorBrewer.
_BLUES = (
    *((247, 251, 255), (222, 235, 247), (198, 219, 239), (158, 202, 225), (107, 174, 214)),
    *((66, 146, 198), (33, 113, 181), (8, 81, 156), (8, 48, 107)),
)


def plot_confusion(
    confusion: np.ndarray, classes: Sequence[str], path: str | Path, title: str = ""
) -> Path:
    """Draws a confusion matrix; each row shows how the pixels of one class were predicted.

    Args:
        confusion: Integers (C, C), rows are true classes and columns predicted ones.
        classes: Their names.
        path: PNG to write; its folder is made.
        title: Heading.

    Returns:
        The path.

    Raises:
        ValueError: Not a square matrix of as many rows as names.
    """
    matrix = np.asarray(confusion, dtype=np.float64)
    if matrix.shape != (len(classes), len(classes)):
        raise ValueError(f"a confusion matrix of shape {matrix.shape} for {len(classes)} classes")
    totals = matrix.sum(1, keepdims=True)
    shares = np.divide(100 * matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    # Labels: a name has the room of one.
    names = [_short(name, _LONGEST) for name in classes]
    heading = _text("\n".join(_short(line, _LONGEST_LINE) for line in title.split("\n")), _HEADING)
    return save_png(np.asarray(_compose(heading, _squares(shares), names)), path)


def _short(text: str, longest: int) -> str:
    shown = printable(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def _compose(heading: Image.Image, squares: Image.Image, names: Sequence[str]) -> Image.Image:
    """The matrix with its names on the left and below, and the scale on its right."""
    labels = [_text(name, _NAME) for name in names]
    longest, side = max(label.width for label in labels), squares.width
    true, predicted = _text("true", _AXIS).rotate(90, expand=True), _text("predicted", _AXIS)
    scale = _scale(max(_SCALE, round(0.6 * side)))
    left, top = 3 * _GAP + true.width + longest, 2 * _GAP + heading.height
    width = max(left + side + 2 * _GAP + scale.width, heading.width + _GAP) + _GAP
    tall = max(side + longest + 2 * _GAP + predicted.height, scale.height)
    sheet = Image.new("RGB", (width, top + tall + _GAP), PAPER)
    sheet.paste(heading, (_GAP, _GAP))
    sheet.paste(squares, (left, top))
    for index, label in enumerate(labels):
        middle = index * _SIDE + _SIDE // 2
        sheet.paste(label, (left - _GAP // 2 - label.width, top + middle - label.height // 2))
        turned = label.rotate(90, expand=True)
        sheet.paste(turned, (left + middle - turned.width // 2, top + side + _GAP // 2))
    sheet.paste(true, (_GAP, top + (side - true.height) // 2))
    below = top + side + _GAP + longest
    sheet.paste(predicted, (left + (side - predicted.width) // 2, below))
    sheet.paste(scale, (left + side + 2 * _GAP, top + max(0, (side - scale.height) // 2)))
    return sheet


def _squares(shares: np.ndarray) -> Image.Image:
    colors = _colors(shares).repeat(_SIDE, 0).repeat(_SIDE, 1)
    picture = Image.fromarray(colors)
    draw, letters = ImageDraw.Draw(picture), font(_NUMBER)
    for row, column in zip(*np.nonzero(shares >= _SHOWN), strict=True):
        share = shares[row, column]
        middle = (column * _SIDE + _SIDE // 2, row * _SIDE + _SIDE // 2)
        ink = PAPER if share > _DARK else INK
        text = f"{share:.0f}"
        left, top, right, bottom = draw.textbbox((0, 0), text, font=letters)
        corner = (middle[0] - (left + right) / 2, middle[1] - (top + bottom) / 2)
        draw.text(corner, text, ink, letters)
    draw.rectangle((0, 0, picture.width - 1, picture.height - 1), outline=INK)
    return picture


def _scale(height: int) -> Image.Image:
    """A bar of the colors of 100 to 0 % with what they mean."""
    meaning = _text("% of the class's pixels", _AXIS).rotate(90, expand=True)
    numbers = {share: _text(str(share), _NAME) for share in (100, 50, 0)}
    line = numbers[0].height
    height = max(height, meaning.height)
    wide = _BAR + _GAP // 2 + numbers[100].width
    sheet = Image.new("RGB", (wide + _GAP // 2 + meaning.width, height + line), PAPER)
    bar = _colors(np.linspace(100, 0, height)[:, None]).repeat(_BAR, 1)
    sheet.paste(Image.fromarray(bar), (0, line // 2))
    for share, number in numbers.items():
        sheet.paste(number, (_BAR + _GAP // 2, round((100 - share) / 100 * (height - 1))))
    sheet.paste(meaning, (wide + _GAP // 2, (sheet.height - meaning.height) // 2))
    return sheet


def _colors(shares: np.ndarray) -> np.ndarray:
    """From percent, any shape, to uint8 RGB."""
    places = np.linspace(0, 100, len(_BLUES))
    channels = [np.interp(shares, places, channel) for channel in zip(*_BLUES, strict=True)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _text(text: str, size: int) -> Image.Image:
    """Some lines of text on paper, as large as they are."""
    letters = font(size)
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), text, font=letters)
    picture = Image.new("RGB", (max(1, round(box[2])), max(1, round(box[3]))), PAPER)
    ImageDraw.Draw(picture).multiline_text((0, 0), text, INK, letters)
    return picture
