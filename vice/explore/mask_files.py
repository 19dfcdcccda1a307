"""Masks of images as files: where each goes, and how it is written and read again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vice.errors import UserError
from vice.names import printable
from vice.runtime.files import make_folder, replace_atomically
from vice.visualize.maps import palette

#: Most concepts of an 8-bit mask with a palette; those of more are 16-bit and gray.
PALETTE_SIZE = 256
#: Text of a mask's file that names its image.
_SOURCE = "vice-image"
#: Text that says what was passed over in the image, a note a line.
_NOTES = "vice-notes"
#: Most concepts that a mask can hold.
MOST_CONCEPTS = 2**16


def mask_names(images: Sequence[Path]) -> list[Path]:
    """Where the mask of each image goes, below one folder; no two are the same.

    Folders below the one that all images share are kept. The suffix is replaced, and kept in front
    of ``.png`` where two images of a folder differ in it alone. File names that differ in case
    alone count as the same, since some systems hold them for it.

    Args:
        images: Paths, all different.

    Example:
        >>> from pathlib import Path
        >>> from vice.explore.mask_files import mask_names
        >>> [str(name) for name in mask_names([Path("a/x.jpg"), Path("a/y.jpg"), Path("a/y.png")])]
        ['x.png', 'y.jpg.png', 'y.png.png']
    """
    shared = os.path.commonpath([image.absolute().parent for image in images])
    relative = [Path(os.path.relpath(image.absolute(), shared)) for image in images]
    count = Counter(str(name.with_suffix("")).casefold() for name in relative)
    short = [
        count[str(name.with_suffix("")).casefold()] == 1 and name.suffix != "" for name in relative
    ]
    names = [
        name.with_suffix(".png") if alone else name.with_name(f"{name.name}.png")
        for name, alone in zip(relative, short, strict=True)
    ]
    of_mask: dict[str, Path] = {}
    for image, name in zip(relative, names, strict=True):
        other = of_mask.setdefault(str(name).casefold(), image)
        if other is not image:
            raise UserError(
                f"{printable(str(other))} and {printable(str(image))} would get one mask, "
                f"{printable(str(name))} (some systems hold names that differ in case alone for "
                "the same): rename one of them, or give their folders one by one"
            )
    return names


def write_mask(
    labels: np.ndarray,
    count: int,
    path: Path,
    made_of: str = "",
    *,
    notes: Sequence[str] = (),
    colors: np.ndarray | None = None,
    void: int | None = None,
) -> None:
    """Writes a label map as an index PNG in one step.

    Args:
        labels: (H, W) integers from 0 to ``count - 1``.
        count: Number of concepts: up to 256 an 8-bit file with a palette, above a 16-bit one
            without colors.
        path: Its folder is made.
        made_of: Kept in the file, for `mask_source`: what tells its image from others.
        notes: Kept in the file, too, for `mask_notes`.
        colors: uint8 (count, 3); None takes `vice.visualize.maps.palette`.
        void: A further value, ``count`` or more, that stands for no concept, and is black.

    Raises:
        UserError: The disk does not take it.
        ValueError: More concepts than 16 bits can number.
    """
    if count > MOST_CONCEPTS:
        raise ValueError(f"{count} concepts in a mask of 16 bits")
    if count <= PALETTE_SIZE:
        image = Image.fromarray(labels.astype(np.uint8))
        table = np.zeros((count if void is None else void + 1, 3), np.uint8)
        table[:count] = palette(count) if colors is None else colors
        image.putpalette(table.tobytes())
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    make_folder(path.parent)
    said = PngInfo()
    if made_of:
        said.add_text(_SOURCE, made_of)
    if notes:
        said.add_text(_NOTES, "\n".join(notes))
    replace_atomically(path, lambda new: image.save(new, format="PNG", pnginfo=said))


def mask_source(path: Path) -> str:
    """What `write_mask` was told of the image; empty where nothing is known."""
    return _text(path, _SOURCE)


def mask_notes(path: Path) -> list[str]:
    """The notes that `write_mask` was given."""
    return _text(path, _NOTES).splitlines()


def _text(path: Path, key: str) -> str:
    try:
        with Image.open(path) as image:
            return str(image.info.get(key, ""))
    except (OSError, SyntaxError, ValueError):
        return ""


def read_mask(path: Path) -> np.ndarray:
    """What `write_mask` wrote: (H, W) int64.

    Raises:
        UserError: The file is no mask, or not whole.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image).astype(np.int64)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such mask; vice segment makes it again") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not whole ({error}); delete it, it is made again") from error
