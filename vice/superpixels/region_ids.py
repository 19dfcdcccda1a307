"""Region ids, contiguous from 0, and checks of the images that region maps are made from."""

from __future__ import annotations

import numpy as np

from vice.errors import UserError


def check_image(image: np.ndarray) -> None:
    """Makes sure that an image can be cut into regions.

    Raises:
        UserError: It is not uint8 RGB, (H, W, 3), with at least one pixel.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise UserError(
            f"superpixels: an image must be uint8 RGB (H, W, 3), got {image.dtype} {image.shape}; "
            "vice.images.read_image gives that form"
        )


def relabel(labels: np.ndarray) -> np.ndarray:
    """Renumbers ids to be contiguous from 0, in the same order; negative ids all become -1.

    Args:
        labels: Integer map of any shape.

    Returns:
        int32 array of the same shape.
    """
    if labels.size == 0:
        return labels.astype(np.int32)
    low, high = int(labels.min()), int(labels.max())
    if low < -1:
        labels, low, high = np.maximum(labels, -1), -1, max(high, -1)
    if high > 4 * labels.size + 65536:  # a lookup table would be larger than the map
        _, inverse = np.unique(labels, return_inverse=True)
        ids = inverse.reshape(labels.shape) - int(low < 0)
        return ids.astype(np.int32)
    table = np.zeros(high + 2, np.int32)  # the last entry is that of id -1
    table[labels] = 1
    table[-1] = 0
    table = np.cumsum(table, dtype=np.int32) - 1
    table[-1] = -1
    return table[labels]
