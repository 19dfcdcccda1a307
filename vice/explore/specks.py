"""Specks of a label map: parts too small to be anything, given to what lies around them."""

from __future__ import annotations

import cv2
import numpy as np


def remove_specks(labels: np.ndarray, least: int) -> np.ndarray:
    """Gives the pixels of small connected parts to the nearest pixel of a larger one.

    Args:
        labels: (H, W) integers from 0.
        least: Pixels that a part, connected over sides, must have to stay.

    Returns:
        int64 (H, W); as it was where no part is large enough.

    Example:
        >>> import numpy as np
        >>> from vice.explore.specks import remove_specks
        >>> remove_specks(np.array([[0, 0, 0], [0, 1, 0], [2, 2, 2]]), 2).tolist()
        [[0, 0, 0], [0, 0, 0], [2, 2, 2]]
    """
    labels = labels.astype(np.int64)
    if least <= 1:
        return labels
    small = np.zeros(labels.shape, bool)
    for value in np.unique(labels):
        count, parts, stats, _ = cv2.connectedComponentsWithStats(
            (labels == value).astype(np.uint8), connectivity=4
        )
        too_small = np.flatnonzero(stats[:count, cv2.CC_STAT_AREA] < least)
        small |= np.isin(parts, too_small[too_small > 0])
    if not small.any() or small.all():
        return labels
    # Nearest zero: the transform numbers the pixels that stay, and says of each other the nearest.
    _, nearest = cv2.distanceTransformWithLabels(
        small.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    kept = ~small
    of_number = np.zeros(int(nearest.max()) + 1, np.int64)
    of_number[nearest[kept]] = labels[kept]
    return of_number[nearest]
