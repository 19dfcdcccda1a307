"""What a training step sees of one image, after figure 3 of ViCE (BMVC)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from vice.images import nearest
from vice.normalize import IMAGENET_MEAN, IMAGENET_STD
from vice.visualize.maps import palette, region_boundaries
from vice.visualize.sheets import INK, PAPER, fit, fit_scale, font

if TYPE_CHECKING:
    from vice.views import Views

_MEAN, _STD = 255 * np.array(IMAGENET_MEAN), 255 * np.array(IMAGENET_STD)
_LINE = 20
_GAP = 10
_FRAME = 3


def draw_views(image: np.ndarray, views: Views, *, seed: int = 0, height: int = 176) -> np.ndarray:
    """Draws the views of one image.

    Left, the image with the box of each view. Right, a column for each view, framed in its box's
    colour: above, the view with the borders of its mutual regions and its masked area as the
    network gets it, noise; below, the mutual regions, each in one random colour in all views.

    Args:
        image: The image the views come from, uint8 RGB (H, W, 3).
        views: Its views.
        seed: Fixes the colours and the noise.
        height: Height of a drawn view, in pixels; larger views are shrunk to it.

    Returns:
        uint8 RGB.
    """
    rng = np.random.default_rng(seed)
    height = min(height, views.images.shape[1])
    frames = palette(len(views.images))
    colors = _region_colors(views.regions, rng)
    columns = []
    for index, pixels in enumerate(views.images):
        small = fit(pixels, height)
        regions = _nearest(views.regions[index], small.shape)
        noise = _nearest(views.noise[index], small.shape)
        noisy = _with_noise(small, noise, rng)
        drawn = np.where(noise[..., None], noisy, region_boundaries(noisy, regions))
        columns.append((drawn, _paint(small, regions, colors)))
    whole = _draw_boxes(image, views.boxes, frames, 2 * (height + 2 * _FRAME) + _GAP)
    return _arrange(whole, columns, frames)


def _region_colors(regions: np.ndarray, rng: np.random.Generator) -> dict[int, np.ndarray]:
    ids = np.unique(regions)
    ids = ids[ids >= 0]
    few = len(ids) <= 256
    colors = palette(len(ids)) if few else rng.integers(40, 256, (len(ids), 3)).astype(np.uint8)
    return dict(zip(ids.tolist(), rng.permutation(colors), strict=True))


def _paint(pixels: np.ndarray, regions: np.ndarray, colors: dict[int, np.ndarray]) -> np.ndarray:
    """Mutual regions in their colours over a pale grey picture of the rest."""
    gray = pixels.mean(-1, keepdims=True) * 0.25 + 190
    painted = np.repeat(gray, 3, -1).astype(np.uint8)
    ids, inverse = np.unique(regions, return_inverse=True)
    table = np.array([colors.get(int(i), (0, 0, 0)) for i in ids], np.uint8)
    mutual = regions >= 0
    painted[mutual] = table[inverse.reshape(regions.shape)][mutual]
    return painted


def _with_noise(pixels: np.ndarray, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uniform in [-1, 1] after normalisation, turned back into colours."""
    values = np.clip(_MEAN + _STD * rng.uniform(-1, 1, (*noise.shape, 3)), 0, 255)
    return np.where(noise[..., None], values.astype(np.uint8), pixels)


def _draw_boxes(
    image: np.ndarray, boxes: np.ndarray, frames: np.ndarray, height: int
) -> np.ndarray:
    scale = fit_scale(image.shape, height)
    canvas = Image.fromarray(fit(image, height, smooth=True))
    draw = ImageDraw.Draw(canvas)
    for box, color in reversed(list(zip(boxes, frames, strict=True))):
        x0, y0, x1, y1 = (round(float(side) * scale) for side in box)
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), None, tuple(color), _FRAME)
    return np.asarray(canvas)


def _arrange(
    whole: np.ndarray, columns: list[tuple[np.ndarray, np.ndarray]], frames: np.ndarray
) -> np.ndarray:
    cell_h, cell_w = columns[0][0].shape[0] + 2 * _FRAME, columns[0][0].shape[1] + 2 * _FRAME
    width = 2 * _GAP + whole.shape[1] + len(columns) * (cell_w + _GAP)
    sheet = Image.new("RGB", (width, _LINE + 2 * (cell_h + _GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 2), "image and boxes", INK, font())
    sheet.paste(Image.fromarray(whole), (_GAP, _LINE))
    for index, (pictures, color) in enumerate(zip(columns, frames, strict=True)):
        x = 2 * _GAP + whole.shape[1] + index * (cell_w + _GAP)
        draw.text((x, 2), f"view {index}" + (", primary" if index == 0 else ""), INK, font())
        for row, picture in enumerate(pictures):
            y = _LINE + row * (cell_h + _GAP)
            draw.rectangle((x, y, x + cell_w - 1, y + cell_h - 1), tuple(color))
            sheet.paste(Image.fromarray(picture), (x + _FRAME, y + _FRAME))
    return np.asarray(sheet)


def _nearest(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return values[nearest(values.shape[0], shape[0])][:, nearest(values.shape[1], shape[1])]
