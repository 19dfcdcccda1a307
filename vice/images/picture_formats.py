"""The formats of pictures that are read; Pillow knows more, and some of those start programs.

An EPS file is a program, which Pillow has Ghostscript run, whatever the file is called.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

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


def open_picture(path: str | Path) -> Image.Image:
    """Opens a picture with `PIL.Image.open`, one of ``PICTURE_FORMATS``.

    Raises:
        OSError: Missing, of none of these formats, or a pipe or device, which is not waited for.
        PIL.Image.DecompressionBombError: Too many pixels.
    """
    from PIL import Image

    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is no regular file")
    Image.init()
    return Image.open(path, formats=[name for name in PICTURE_FORMATS if name in Image.OPEN])
