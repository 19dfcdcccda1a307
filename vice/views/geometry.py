"""View geometry: content points, view boxes and mask rectangles, all drawn from one generator.

The von Mises draws of ViCE (BMVC) section 3.2 are on a circle, v in (-pi, pi]. Everywhere here
such a draw is mapped to an interval linearly, (v + pi) / (2 pi) in [0, 1]: von Mises(0, 2) then has
its mode in the middle of the interval, von Mises(pi/2, 2) at three quarters of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

KAPPA = 2.0


def unit_von_mises(
    rng: np.random.Generator, mode: float, size: int | tuple[int, ...]
) -> np.ndarray:
    """Draws von Mises(mode, kappa=2) mapped linearly from (-pi, pi] to [0, 1].

    Args:
        rng: Source of randomness.
        mode: Angle in radians; `(mode + pi) / (2 pi)` is the mode of the result.
        size: Shape of the result.

    Returns:
        float64 array of shape `size`.
    """
    drawn = (rng.vonmises(mode, KAPPA, size) + math.pi) / (2 * math.pi)
    return np.minimum(np.maximum(drawn, 0.0), 1.0)


def content_edges(image: np.ndarray, *, canny_low: float, canny_high: float) -> np.ndarray:
    """How near an edge each pixel is.

    Edges of the grey, 3x3-blurred image (Canny, L2 gradient), dilated and blurred by 3x3.

    Args:
        image: uint8 RGB, (H, W, 3).
        canny_low: Lower hysteresis threshold.
        canny_high: Upper hysteresis threshold.

    Returns:
        uint8 (H, W), 255 on an edge, 0 far from all.
    """
    import cv2

    gray = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (3, 3), 0)
    edges = cv2.Canny(gray, canny_low, canny_high, L2gradient=True)
    near: np.ndarray = cv2.GaussianBlur(cv2.dilate(edges, np.ones((3, 3), np.uint8)), (3, 3), 0)
    return near


def content_weights(edges: np.ndarray, floor: float) -> np.ndarray:
    """Unnormalised probability of each pixel to be the point that views gather around.

    Args:
        edges: As `content_edges` returns them.
        floor: Weight of a pixel far from any edge.

    Returns:
        float32 (H, W), in [floor, 1 + floor].

    Source: ViCE (BMVC) section 3.2, algorithm 1.
    """
    return edges * np.float32(1 / 255) + np.float32(floor)


def draw_point(weights: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Draws one pixel with probability proportional to its weight; returns (x, y)."""
    import cv2

    # Doubles hold sums of a thousand floats from 1e-6 to 2, and of millions from 0.005 on, without
    # rounding, so that their order does not matter.
    rows = cv2.reduce(weights, 1, cv2.REDUCE_SUM, dtype=cv2.CV_64F)
    y = _draw_index(rows.ravel(), rng)
    return _draw_index(weights[y].astype(np.float64), rng), y


def _draw_index(weights: np.ndarray, rng: np.random.Generator) -> int:
    total = weights.cumsum()
    index = int(total.searchsorted(rng.random() * total[-1], side="right"))
    return min(index, len(weights) - 1)


def contextual_boxes(
    point: tuple[int, int],
    shape: tuple[int, int],
    size: tuple[int, int],
    scale: tuple[float, float],
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Boxes of shifted and zoomed views around a content point.

    View 0 is centred on the point. View m of the others lies in the m-th of `count - 1` equal
    sectors around the centre of view 0: its angle inside the sector is von Mises(0, 2), its
    distance von Mises(pi/2, 2) over [0, half of its own size] (an ellipse for views that are not
    square), so that it always covers that centre. Sizes are `size` times U(scale), each side
    clipped to the image; boxes that leave the image are shifted back into it.

    Args:
        point: Content point (x, y) in pixels.
        shape: Height and width of the image.
        size: Height and width common to the views.
        scale: Least and greatest zoom.
        count: Number of views, at least 1.
        rng: Source of randomness.

    Returns:
        int32 (count, 4): x0, y0, x1, y1 in image pixels, ends exclusive.

    Source: ViCE (BMVC) section 3.2, algorithm 1.
    """
    sides = _clipped_sides(rng.uniform(*scale, size=count), size, shape)
    primary = _place((point[0] + 0.5, point[1] + 0.5), sides[0], shape)
    others = count - 1
    if not others:
        return _boxes([primary], sides)
    sector = np.arange(others) + unit_von_mises(rng, 0.0, others)
    angle = 2 * math.pi * sector / others
    radius = unit_von_mises(rng, math.pi / 2, others).tolist()
    center = _center(primary, sides[0])
    corners = [primary]
    # Few boxes: plain numbers are quicker than arrays of two or three.
    for side, far, cos, sin in zip(
        sides[1:], radius, np.cos(angle).tolist(), np.sin(angle).tolist(), strict=True
    ):
        wanted = center[0] + cos * far * side[0] / 2, center[1] + sin * far * side[1] / 2
        corners.append(_place(wanted, side, shape, center))
    return _boxes(corners, sides)


def resolution_boxes(
    point: tuple[int, int],
    shape: tuple[int, int],
    size: tuple[int, int],
    ratios: Sequence[float],
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Boxes of views with one centre and different zooms.

    The zoom of view m is uniform between the m-th and the next of the `ratios`, beginning again
    when they are used up. The other views have the (clipped) centre of view 0.

    Args:
        point: Content point (x, y) in pixels, the centre of view 0.
        shape: Height and width of the image.
        size: Height and width common to the views.
        ratios: Increasing borders of the zoom bins, at least two.
        count: Number of views, at least 1.
        rng: Source of randomness.

    Returns:
        int32 (count, 4): x0, y0, x1, y1 in image pixels, ends exclusive.

    Source: option of the authors' public release, off in the papers.
    """
    borders = np.asarray(ratios, np.float64)
    bins = np.arange(count) % (len(borders) - 1)
    sides = _clipped_sides(rng.uniform(borders[bins], borders[bins + 1]), size, shape)
    primary = _place((point[0] + 0.5, point[1] + 0.5), sides[0], shape)
    center = _center(primary, sides[0])
    return _boxes([primary, *(_place(center, side, shape, center) for side in sides[1:])], sides)


def _clipped_sides(
    zoom: np.ndarray, size: tuple[int, int], shape: tuple[int, int]
) -> list[tuple[int, int]]:
    """Width and height of each view, at least 1 and at most the image's."""
    (height, width), (most_height, most_width) = size, shape
    return [
        (min(max(round(z * width), 1), most_width), min(max(round(z * height), 1), most_height))
        for z in zoom.tolist()
    ]


def _center(corner: tuple[int, int], side: tuple[int, int]) -> tuple[float, float]:
    return corner[0] + side[0] / 2, corner[1] + side[1] / 2


def _place(
    center: tuple[float, float],
    side: tuple[int, int],
    shape: tuple[int, int],
    covered: tuple[float, float] | None = None,
) -> tuple[int, int]:
    """Upper left corner of a box inside the image that covers the position `covered`.

    Positions are continuous, pixel (0, 0) reaches from 0 to 1; default: the box's own centre.
    """
    x, y = center if covered is None else covered
    return (
        _start(center[0], side[0], shape[1], math.floor(x)),
        _start(center[1], side[1], shape[0], math.floor(y)),
    )


def _start(center: float, side: int, length: int, pixel: int) -> int:
    """First pixel of a box along one axis."""
    start = min(max(round(center - side / 2), pixel - side + 1), pixel)  # rounding may have lost it
    return min(max(start, 0), length - side)


def _boxes(corners: list[tuple[int, int]], sides: list[tuple[int, int]]) -> np.ndarray:
    boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, sides, strict=True)]
    return np.array(boxes, np.int32)


def mask_rectangles(
    count: int, size: tuple[int, int], intensity: float, rng: np.random.Generator
) -> np.ndarray:
    """One rectangle a view, inside the resized view.

    Each side is von Mises(pi/2, 2) over [0, `intensity` of the view's side], at least one pixel;
    the centre lies at a uniform angle and a von Mises(pi/2, 2) radius over [0, half the view's
    size] around the view's centre. What sticks out is cut off.

    Args:
        count: Number of views.
        size: Height and width of the views in pixels.
        intensity: Greatest side of the rectangle as a share of the view's; 0 gives empty ones.
        rng: Source of randomness.

    Returns:
        int64 (count, 4): x0, y0, x1, y1 in view pixels, ends exclusive.

    Source: ViCE (BMVC) section 3.2.
    """
    drawn = unit_von_mises(rng, math.pi / 2, 3 * count)
    angle = rng.uniform(0.0, 2 * math.pi, count)
    if intensity <= 0:
        return np.zeros((count, 4), np.int64)
    direction = np.cos(angle).tolist(), np.sin(angle).tolist()
    rectangles = np.empty((count, 4), np.int64)
    for axis, full in enumerate(size[::-1]):
        sides, radius = drawn[axis : 2 * count : 2].tolist(), drawn[2 * count :].tolist()
        ends = [
            _ends(full / 2 * (1 + along * far), max(round(side * intensity * full), 1), full)
            for side, far, along in zip(sides, radius, direction[axis], strict=True)
        ]
        rectangles[:, axis::2] = ends
    return rectangles


def _ends(center: float, side: int, full: int) -> tuple[int, int]:
    """First pixel, and the one after the last, of what lies inside along one axis."""
    start = round(center - side / 2)
    low = min(max(start, 0), full - 1)
    return low, min(max(start + side, low + 1), full)
