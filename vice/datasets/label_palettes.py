"""Palettes of a split's label maps: whether one index means one color in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vice.datasets.label_files import opened
from vice.datasets.split_files import DESCRIBE
from vice.errors import UserError

Color = tuple[int, int, int]


def check_palettes(files: Sequence[Path], values: Sequence[Sequence[int]]) -> None:
    """Refuses label maps of which each numbers its colors by itself.

    A program that saves colored masks as palette images gives each file a palette of the colors
    that occur in it: then an index is no class. Palettes that differ in colors which are not used,
    or name one color at several indices alike, are left alone.

    Args:
        files: Label maps.
        values: Of each, the indices that occur in it.

    Raises:
        UserError: Names two files, a color, and its index in each.
    """
    known: dict[Color, tuple[int, Path, list[Color]]] = {}
    for file, used in zip(files, values, strict=True):
        colors = _palette(file)
        for index in used:
            if index >= len(colors):
                continue
            color = colors[index]
            before, first, others = known.setdefault(color, (index, file, colors))
            if color not in (*colors[before : before + 1], *others[index : index + 1]):
                raise UserError(
                    f"{file}: the color {color} has index {index} in its palette and {before} in "
                    f"that of {first}, so that an index is not one class: write the class index "
                    f"of each pixel as 8-bit grey PNG, the same for all files, or {DESCRIBE}"
                )


def check_known_palette(file: Path, stored: np.ndarray, known: Mapping[int, Color]) -> None:
    """Refuses a palette that shows the color of one class at the index of another.

    A program that saves a colored mask as a palette image numbers the colors anew. Grey files, and
    palettes that share no color with the data set's, are left alone.

    Args:
        file: A label map.
        stored: Its indices, uint8 (H, W).
        known: Color of each stored value of the data set, none twice.

    Raises:
        UserError: Names the file, the color, its index there and in the data set.
    """
    colors = _palette(file)
    index_of = {color: index for index, color in known.items()}
    for index in np.unique(stored).tolist():
        color = colors[index] if index < len(colors) else None
        wanted = index_of.get(color, index) if color else index
        if wanted != index and colors[wanted : wanted + 1] != [color]:
            raise UserError(
                f"{file}: the color {color} has index {index} in its palette and {wanted} in the "
                "data set's, as after saving the colors instead of the indices: unpack the "
                "original file again"
            )


def _palette(file: Path) -> list[Color]:
    """Colors by index; none of a file without a palette. No pixel is decoded."""
    with opened(file) as image:
        flat = image.getpalette("RGB") if image.mode == "P" else None
    flat = flat or []
    return list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))
