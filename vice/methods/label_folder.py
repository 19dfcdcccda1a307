"""Label maps that lie beside the training images, for methods that may use some labels."""

from __future__ import annotations

import numpy as np

from vice.datasets.label_files import read_stored, resize_nearest, same_shape
from vice.errors import UserError
from vice.images import ImageError
from vice.superpixels.external import RegionFiles


def read_labels_of(path: str, image: np.ndarray, files: RegionFiles) -> np.ndarray:
    """The label map of an image, at the image's size.

    Args:
        path: The image's file, whose label map has the same name.
        image: (H, W, 3).
        files: Finds label maps.

    Returns:
        uint8 (H, W).

    Raises:
        ImageError: There is none that can be read, or it has another shape than the image.
    """
    file = files.find(path)
    try:
        labels = read_stored(file, upright=True)
    except UserError as error:
        raise ImageError(str(error)) from error
    size = image.shape[:2]
    if not same_shape(labels.shape, size):
        raise ImageError(
            f"{file}: {labels.shape[1]}x{labels.shape[0]} pixels, but its image {path} has the "
            f"shape of {size[1]}x{size[0]}; they must match"
        )
    return resize_nearest(labels, size) if labels.shape != size else labels
