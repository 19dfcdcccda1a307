"""Five crops of an image: the corners and the center."""

from __future__ import annotations

#: How many they are.
FIVE = 5


def five_crop_box(height: int, width: int, number: int, ratio: float) -> tuple[int, int, int, int]:
    """One of the crops of torchvision's ``five_crop``.

    Args:
        height: Of the image, in pixels.
        width: Of the image.
        number: 0 top left, 1 top right, 2 bottom left, 3 bottom right, 4 the center.
        ratio: Sides of a crop as a share of the image's; fractions of a pixel are cut off.

    Returns:
        First row and column, height and width.
    """
    tall, wide = int(height * ratio), int(width * ratio)
    bottom, right = height - tall, width - wide
    middle = (round(bottom / 2), round(right / 2))
    top, left = [(0, 0), (0, right), (bottom, 0), (bottom, right), middle][number]
    return top, left, tall, wide
