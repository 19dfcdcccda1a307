"""Pixels in the order in which a file stores them, whatever its orientation says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION = 0x0112


def unmapped(image: Image.Image) -> Image.Image:
    """An opened picture of which Pillow maps no file that it would map wrongly; changed in place.

    Uncompressed TIFF files are mapped into memory by their turned size, which mixes their rows
    where an orientation swaps height and width. Without a name Pillow decodes them.

    Args:
        image: Opened and not loaded yet.
    """
    tags = getattr(image, "tag_v2", None)
    if tags is not None and tags.get(_ORIENTATION, 1) in range(5, 9):
        image.filename = ""  # type: ignore[attr-defined]
    return image


def oriented(image: Image.Image, *, upright: bool) -> Image.Image:
    """A picture as viewers show it, or as its file stores it.

    Args:
        image: Opened and not loaded yet.
        upright: Whether its orientation is applied.
    """
    from PIL import ImageOps

    if not upright:
        return as_stored(image)
    # As it is stored: Pillow would copy it, too.
    if image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def as_stored(image: Image.Image) -> Image.Image:
    """A picture as its file stores it: of TIFF files Pillow turns the pixels while it reads them.

    Args:
        image: Opened and not loaded yet.
    """
    from PIL import Image

    if image.format != "TIFF":
        return image
    orientation = image.getexif().get(_ORIENTATION, 1)
    image.load()
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    return image if back is None else image.transpose(back)
