"""Image files: finding them, reading them as 8-bit RGB, and what they hold."""

from vice.images.lists import SUFFIXES, list_images
from vice.images.read import (
    Interpolation,
    check_format,
    decode_image,
    nearest,
    read_image,
    resize,
    standardize,
    upright_rgb,
)
from vice.images.reading import Reading, reading_of
from vice.images.reading_options import ImageReading
from vice.images.refusals import FormatError, ImageError
from vice.images.standard_size import Mode, StandardSize

__all__ = [
    "SUFFIXES",
    "FormatError",
    "ImageError",
    "ImageReading",
    "Interpolation",
    "Mode",
    "Reading",
    "StandardSize",
    "check_format",
    "decode_image",
    "list_images",
    "nearest",
    "read_image",
    "reading_of",
    "resize",
    "standardize",
    "upright_rgb",
]
