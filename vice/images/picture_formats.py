"""The formats of pictures that are read; Pillow knows more, and some of those start programs.

An EPS file is a program, which Pillow has Ghostscript run, whatever the file is called.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vice.images.stored_order import unmapped

if TYPE_CHECKING:
    from PIL import Image

#: Names of Pillow's decoders: of a picture's own bytes only.
PICTURE_FORMATS = (
    "PNG",
    "JPEG",
    "MPO",
    "JPEG2000",
    "WEBP",
    "AVIF",
    "HEIF",
    "TIFF",
    "BMP",
    "DIB",
    "GIF",
    "PPM",
    "TGA",
    "PCX",
    "ICO",
    "SGI",
)


#: Pixels of a picture that are read unless more are asked for: Pillow's own limit.
MAX_PIXELS = 178_956_970
_LIMIT = threading.Lock()


def open_picture(path: str | Path, max_pixels: int | None = None) -> Image.Image:
    """Opens a picture with `PIL.Image.open`, one of ``PICTURE_FORMATS``.

    Args:
        path: Of the file.
        max_pixels: Most pixels; None leaves it to Pillow (``PIL.Image.MAX_IMAGE_PIXELS``, twice of
            which is ``MAX_PIXELS``).

    Raises:
        OSError: Missing, of none of these formats, or a pipe or device, which is not waited for.
        PIL.Image.DecompressionBombError: Too many pixels.
    """
    from PIL import Image, UnidentifiedImageError

    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is no regular file")
    Image.init()
    try:
        return unmapped(_opened(path, max_pixels))
    except UnidentifiedImageError:
        if not add_openers():
            raise
    return unmapped(_opened(path, max_pixels))


@cache
def add_openers() -> bool:
    """Lets Pillow read what optional packages add to it: HEIC, and AVIF where it lacks it itself.

    Returns:
        Whether there was any.
    """
    from PIL import Image

    before = len(Image.OPEN)
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    if "AVIF" not in Image.OPEN:
        with suppress(ImportError):
            import pillow_avif  # noqa: F401
    return len(Image.OPEN) > before


def is_read(name: str) -> bool:
    """Whether Pillow, with what is installed beside it, has a decoder of that name."""
    from PIL import Image

    Image.init()
    if name not in Image.OPEN:
        add_openers()
    return name in Image.OPEN


def _opened(path: str | Path, max_pixels: int | None) -> Image.Image:
    from PIL import Image

    formats = [name for name in PICTURE_FORMATS if name in Image.OPEN]
    if max_pixels is None:
        return Image.open(path, formats=formats)
    # Pillow's limit is one for the process, and it is looked at when a file is opened.
    with _LIMIT:
        kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = kept
    if image.width * image.height > max_pixels:
        image.close()
        raise Image.DecompressionBombError(
            f"its {image.width * image.height} pixels exceed the limit of {max_pixels}"
        )
    return image
