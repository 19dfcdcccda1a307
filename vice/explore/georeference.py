"""Where an image lies on the ground: kept from a GeoTIFF for the mask that is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from vice.images.tiff_pages import TiffPage, read_pages
from vice.runtime.files import make_folder, replace_atomically

#: ModelPixelScale, ModelTiepoint and ModelTransformation; GeoKeyDirectory, GeoDoubleParams and
#: GeoAsciiParams; and their types: 12 is double, 3 short, 2 ASCII (OGC GeoTIFF 1.1).
_TAGS = {33550: 12, 33922: 12, 34264: 12, 34735: 3, 34736: 12, 34737: 2}
_PLACES = (33922, 34264)


def georeference(image: Path, page: int = 1) -> dict[int, Any]:
    """The tags of a GeoTIFF that say where its pixels lie.

    Args:
        image: Any file.
        page: Which page, from 1.

    Returns:
        Tag to value; empty of a file that says nothing of it, and of one that is turned by its
        orientation, whose tags are about pixels as they are stored.
    """
    try:
        pages = read_pages(image)
    except OSError:
        return {}
    if not pages or page > len(pages):
        return {}
    tags = _tags(pages[page - 1]) or _tags(pages[0])
    return {} if pages[page - 1].layout.orientation != 1 else tags


def _tags(page: TiffPage) -> dict[int, Any]:
    if not any(tag in page.tags for tag in _PLACES):
        return {}
    return {tag: page.tags[tag] for tag in _TAGS if tag in page.tags}


def write_geotiff(mask: Path, path: Path, tags: dict[int, Any]) -> None:
    """Writes a mask as a GeoTIFF, deflated, in one step.

    Args:
        mask: As `vice.explore.mask_files.write_mask` wrote it; values and colors stay.
        path: Its folder is made.
        tags: What `georeference` returns of its image.

    Raises:
        UserError: The disk does not take it.
    """
    info = ImageFileDirectory_v2()
    for tag, value in tags.items():
        info.tagtype[tag] = _TAGS[tag]
        info[tag] = value
    make_folder(path.parent)
    with Image.open(mask) as picture:
        replace_atomically(
            path,
            lambda new: picture.save(
                new, format="TIFF", compression="tiff_adobe_deflate", tiffinfo=info
            ),
        )
