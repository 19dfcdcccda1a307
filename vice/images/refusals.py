"""Files that cannot be read as images: what they are, in one line, and what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vice.errors import UserError
from vice.images.picture_formats import is_read
from vice.images.pixel_scale import UnclearPixels
from vice.images.tiff_layout import EIGHT_BITS, describe, read_layout
from vice.runtime.regular_file import open_regular

#: What Pillow says of too many pixels.
_BOMB = re.compile(r"Image size \((\d+) pixels\) exceeds limit of (\d+).*", re.DOTALL)
#: Place, bytes and name of formats that people have and Pillow does not read.
_FOREIGN = (
    (128, b"DICM", "a DICOM file"),
    (0, b"v/1\x01", "an OpenEXR file"),
    (0, b"#?RADIANCE", "a Radiance HDR file"),
    (0, b"\x89HDF\r\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\xff\x0a", "a JPEG XL file"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL file"),
)
#: The same of formats that a package adds to Pillow, with what Pillow calls them and the package.
_ADDED = (
    (4, b"ftyphei", "a HEIC photograph", "HEIF", "pillow-heif"),
    (4, b"ftyphev", "a HEIC photograph", "HEIF", "pillow-heif"),
    (4, b"ftypmif1", "a HEIF photograph", "HEIF", "pillow-heif"),
    (4, b"ftypmsf1", "a HEIF photograph", "HEIF", "pillow-heif"),
    (4, b"ftypavif", "an AVIF picture", "AVIF", "pillow-avif-plugin"),
    (4, b"ftypavis", "an AVIF picture", "AVIF", "pillow-avif-plugin"),
)


class ImageError(UserError):
    """An image file that cannot be read; the message names the file and says why."""


class FormatError(ImageError):
    """An image whose pixels could only be read by guessing what they mean."""


@contextmanager
def reasons(path: str | Path) -> Iterator[None]:
    """Says of a file that cannot be read what it is, in one line, and what to do."""
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    # Path length: os.path has an answer for names too long for the disk, too; Path raises.
    if os.path.isdir(path):
        raise ImageError(f"{path} is a folder, and not an image file: name the images in it")
    if not os.path.isfile(path):
        if os.path.islink(path) and not os.path.exists(path):
            raise ImageError(f"{path}: is a link to a file that is not there; mend or remove it")
        if os.path.exists(path):
            raise ImageError(f"{path}: is no ordinary file, but a pipe, socket or device")
        raise ImageError(f"{path}: no such image file; check the path or the image list")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the image file is empty (0 bytes); copy it again")
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise _unidentified(path, error) from error
    except UnclearPixels as error:
        raise FormatError(f"{path}: {error}") from error
    except Image.DecompressionBombError as error:
        # Pillow's own words are of an attack.
        said = _BOMB.sub(r"its \1 pixels exceed the limit of \2", str(error))
        raise ImageError(
            f"{path}: {said}; shrink the image, or remove it; who trusts it raises the limit in "
            "Python: max_pixels=... of vice.load and read_image, PIL.Image.MAX_IMAGE_PIXELS for "
            "all else"
        ) from error
    # Catch-all: decoders meet broken bytes with struct.error, zlib.error, SyntaxError and others.
    except Exception as error:
        raise ImageError(
            f"{path}: cannot be read as an image ({error}); replace or remove the file"
        ) from error


def _unidentified(path: Path, error: Exception) -> ImageError:
    """Says what a file is that Pillow does not know, with the remedy."""
    layout = read_layout(path)
    if layout is not None:
        return FormatError(
            f"{path}: a TIFF of {describe(layout)} in a layout that is not read: {EIGHT_BITS}"
        )
    foreign = foreign_format(path)
    if foreign:
        return FormatError(f"{path}: {foreign}")
    return ImageError(
        f"{path}: cannot be read as an image (of no kind that is known); replace or remove it"
    )


def foreign_format(path: Path) -> str | None:
    """What a file is by its first bytes, if it is of a kind that is known and not read."""
    with open_regular(path) as file:
        head = file.read(132)
    for offset, magic, name in _FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            return f"{name}, which is not read: convert it to an 8-bit PNG or JPEG"
    for offset, magic, name, opener, package in _ADDED:
        if head[offset : offset + len(magic)] == magic and not is_read(opener):
            return f"{name}, which is read with `pip install {package}`"
    return None
