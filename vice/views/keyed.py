"""Views whose randomness is a function of a key alone, so that every pass draws the same ones.

PiCIE's views: a square of the image, its colors changed; the first view is cut out of it, the
second shows all of it at half the size, and its embedding is cut alike (Cho et al. 2021, with the
numbers of the authors' code).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from PIL import Image, ImageFilter
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as pictures

from vice.options import FLAG, one_of, option, whole
from vice.views.feature_crop import crop_box

#: Pixels of a side for each cell of the embedding.
STRIDE = 4


class Operation(IntEnum):
    """What is drawn; each has random numbers of its own."""

    ORDER = 0
    GEOMETRY = 1
    BRIGHTNESS = 2
    CONTRAST = 3
    SATURATION = 4
    HUE = 5
    GREY = 6
    BLUR = 7
    SCALE = 8
    CROP = 9
    AFFINE = 10
    MIRROR = 11
    JITTER = 12


def uniform(
    seed: int, epoch: int, image: int, view: int, operation: Operation, count: int
) -> np.ndarray:
    """Random numbers of one operation, by a counter: no table, no state.

    Args:
        seed: Of the run.
        epoch: From 0.
        image: Position in the list of images.
        view: From 0.
        operation: What they are for.
        count: How many.

    Returns:
        float64 (count,), uniform in [0, 1).

    Source: Philox, Salmon et al. (2011).
    """
    return generator(seed, epoch, image, view, operation).random(count)


def order_of(seed: int, epoch: int, images: int) -> np.ndarray:
    """The permutation that all passes of an epoch read the images in; int64 (images,)."""
    return generator(seed, epoch, 0, 0, Operation.ORDER).permutation(images)


def generator(
    seed: int, epoch: int, image: int, view: int, operation: Operation
) -> np.random.Generator:
    """What `uniform` draws from, for other distributions."""
    # The lowest word counts what is drawn.
    counter = np.array([0, view << 8 | operation, image, epoch], np.uint64)
    return np.random.Generator(np.random.Philox(key=seed, counter=counter))


@dataclass(frozen=True)
class KeyedOptions:
    """How a view is made of an image."""

    image_side: int = option(
        640, whole(8, 2**14), "side of the square that images are brought to, pixels"
    )
    view_side: int = option(320, whole(4, 2**13), "side of both views, pixels; a multiple of 4")
    crop_grid: str = option(
        "original",
        one_of("original", "exact"),
        "how crops are rounded: on pixels for the image and on cells for the embedding (the "
        "authors' code), or on cells for both",
    )
    grey: bool = option(
        False, FLAG, "whether a fifth of the views is grey (the paper), or none (its logs)"
    )
    blur: str = option(
        "original",
        one_of("original", "paper"),
        "radius of the blur in pixels: |3.8 (u - 0.5) + 0.1| for u below 0.5 (the authors' code), "
        "or uniform from 0.1 to 2 (paper)",
    )


@dataclass(frozen=True)
class Geometry:
    """Where the first view lies in the second.

    Attributes:
        box: First row, first column and length in pixels of the base square.
        cells: The same in cells of the second view's embedding.
        flip: Whether the first view is mirrored.
    """

    box: tuple[int, int, int]
    cells: tuple[int, int, int]
    flip: bool

    @classmethod
    def draw(cls, seed: int, epoch: int, image: int, options: KeyedOptions) -> Geometry:
        """A side of half to all of the square, anywhere in it; mirrored every other time."""
        u = uniform(seed, epoch, image, 0, Operation.GEOMETRY, 4).tolist()
        place = (0.5 + 0.5 * u[0], u[1], u[2])
        cells = crop_box(options.view_side // STRIDE, *place)
        if options.crop_grid == "exact":
            step = options.image_side // (options.view_side // STRIDE)
            return cls((cells[0] * step, cells[1] * step, cells[2] * step), cells, u[3] < 0.5)
        return cls(crop_box(options.image_side, *place), cells, u[3] < 0.5)

    def on_base(self, labels: np.ndarray, unknown: int) -> np.ndarray:
        """A map (g, g) of what the first view shows as one of all cells, unknown outside of it."""
        row, column, length = self.cells
        size = len(labels)
        inside = ((np.arange(length) + 0.5) * size / length).astype(int)
        shown = labels[inside][:, size - 1 - inside if self.flip else inside]
        whole_map = np.full_like(labels, unknown)
        whole_map[row : row + length, column : column + length] = shown
        return whole_map


def blur_radius(u: float) -> float | None:
    """Radius of the Gaussian blur that the authors' code makes of a number; None for no blur.

    Pillow takes the square of it, so that a negative one blurs as well.
    """
    return abs(3.8 * (u - 0.5) + 0.1) if u < 0.5 else None


def change_colors(
    image: Image.Image, seed: int, epoch: int, number: int, view: int, options: KeyedOptions
) -> Image.Image:
    """Brightness, contrast, saturation, hue, grey and blur in this order, each decided by itself.

    Args:
        image: RGB.
        seed: Of the run.
        epoch: From 0.
        number: Position of the image in the list.
        view: From 0; each has a chain of its own.
        options: Which variants.

    Returns:
        Of the same size and mode.
    """

    def drawn(operation: Operation, count: int = 2) -> list[float]:
        return uniform(seed, epoch, number, view, operation, count).tolist()  # type: ignore[no-any-return]

    for operation, change in (
        (Operation.BRIGHTNESS, pictures.adjust_brightness),
        (Operation.CONTRAST, pictures.adjust_contrast),
        (Operation.SATURATION, pictures.adjust_saturation),
    ):
        chance, factor = drawn(operation)
        if chance < 0.8:
            image = change(image, 0.7 + 0.6 * factor)
    chance, factor = drawn(Operation.HUE)
    if chance < 0.8:
        image = pictures.adjust_hue(image, -0.1 + 0.2 * factor)
    if options.grey and drawn(Operation.GREY)[0] < 0.2:
        image = pictures.rgb_to_grayscale(image, num_output_channels=3)
    u, share = drawn(Operation.BLUR)
    radius = blur_radius(u)
    if radius is not None and options.blur == "paper":
        radius = 0.1 + 1.9 * share
    return image if radius is None else image.filter(ImageFilter.GaussianBlur(radius))


def square(
    image: np.ndarray, side: int, interpolation: InterpolationMode = InterpolationMode.BILINEAR
) -> Image.Image:
    """The middle square of an image whose shorter side is brought to its length.

    Args:
        image: (H, W, 3) or (H, W), uint8.
        side: In pixels.
        interpolation: Antialiased where the image shrinks, unless it is the nearest pixel.
    """
    resized = pictures.resize(Image.fromarray(image), side, interpolation)
    return pictures.center_crop(resized, side)  # type: ignore[no-any-return]
