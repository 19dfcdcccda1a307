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
    y = _draw_index(weights.sum(axis=1, dtype=np.float64), rng)
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
    primary = _place(np.array([point], np.float64) + 0.5, sides[:1], shape)
    center = primary[0] + sides[0] / 2
    others = count - 1
    if not others:
        return _boxes(primary, sides)
    sector = np.arange(others) + unit_von_mises(rng, 0.0, others)
    angle = 2 * math.pi * sector / others
    radius = unit_von_mises(rng, math.pi / 2, others)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    wanted = center + direction * radius[:, None] * sides[1:] / 2
    return _boxes(np.concatenate([primary, _place(wanted, sides[1:], shape, center)]), sides)


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
    primary = _place(np.array([point], np.float64) + 0.5, sides[:1], shape)
    center = primary[0] + sides[0] / 2
    wanted = np.repeat(center[None], count - 1, axis=0)
    return _boxes(np.concatenate([primary, _place(wanted, sides[1:], shape, center)]), sides)


def _clipped_sides(zoom: np.ndarray, size: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Width and height of each view, (M, 2), at least 1 and at most the image's."""
    sides = np.rint(zoom[:, None] * np.array(size[::-1], np.float64)).astype(np.int64)
    return np.clip(sides, 1, np.array(shape[::-1]))


def _place(
    centers: np.ndarray,
    sides: np.ndarray,
    shape: tuple[int, int],
    covered: np.ndarray | None = None,
) -> np.ndarray:
    """Upper left corners (n, 2) of boxes inside the image that cover the position `covered`.

    Positions are continuous, pixel (0, 0) reaches from 0 to 1; default: each box's own centre.
    """
    pixel = np.floor(centers if covered is None else covered).astype(np.int64)
    corner = np.rint(centers - sides / 2).astype(np.int64)
    corner = np.clip(corner, pixel - sides + 1, pixel)  # rounding may have lost it
    return np.clip(corner, 0, np.array(shape[::-1]) - sides)


def _boxes(corners: np.ndarray, sides: np.ndarray) -> np.ndarray:
    return np.concatenate([corners, corners + sides], axis=1).astype(np.int32)


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
    full = np.array(size[::-1], np.float64)
    sides = unit_von_mises(rng, math.pi / 2, (count, 2)) * intensity * full
    radius = unit_von_mises(rng, math.pi / 2, count)
    angle = rng.uniform(0.0, 2 * math.pi, count)
    if intensity <= 0:
        return np.zeros((count, 4), np.int64)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    center = full / 2 * (1 + direction * radius[:, None])
    sides = np.maximum(np.rint(sides), 1.0)
    start = np.rint(center - sides / 2)
    low = np.clip(start, 0, full - 1)
    high = np.clip(start + sides, low + 1, full)
    return np.concatenate([low, high], axis=1).astype(np.int64)
