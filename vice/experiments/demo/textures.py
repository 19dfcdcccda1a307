"""The pictures behind the demo: photographs, and texture patches cut from fixed rectangles.

All of them travel inside the scikit-image wheel and are CC0 or public domain. A texture class is a
named pair of rectangles in one picture, one for each split; everything that is done to a patch
(grey, resize, flattening) is done after the cut, so no pixel of one split reaches the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from vice.errors import UserError
from vice.parts import package

SPLITS = ("train", "val")
PHOTOGRAPHS = ("chelsea", "coffee", "astronaut", "rocket", "hubble_deep_field", "retina")
LICENSES = {
    "chelsea": "CC0, Stefan van der Walt",
    "coffee": "CC0, Rachel Michetti, courtesy of Pikolo Espresso Bar",
    "astronaut": "public domain, NASA Great Images database",
    "rocket": "public domain, SpaceX",
    "hubble_deep_field": "public domain, NASA / ESA (HubbleSite)",
    "retina": "CC0, Mikael Haggstrom (Wikimedia Commons), DOI 10.15347/wjm/2014.008",
    "brick": "CC0, CC0Textures (Bricks25)",
    "grass": "CC0, linolafett (DeviantArt, Grass-01)",
    "gravel": "CC0, CC0Textures (Gravel04)",
}

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class TextureSource:
    """Where one texture class comes from.

    Attributes:
        name: The class name.
        picture: Name of the scikit-image picture.
        train: ``(top, left, bottom, right)`` in pixels of the picture, for the train mosaics.
        val: The same for the val mosaics; never meets ``train``.
        zoom: Size change that brings the grain of the texture to a few pixels.
        gamma: Exponent on intensities in [0, 1]; below 1 lifts the faint parts.
    """

    name: str
    picture: str
    train: Box
    val: Box
    zoom: float = 1.0
    gamma: float = 1.0

    def box(self, split: str) -> Box:
        """Returns the rectangle of ``"train"`` or ``"val"``."""
        return self.train if split == "train" else self.val


SOURCES = (
    TextureSource("brick", "brick", (0, 0, 512, 246), (0, 266, 512, 512)),
    TextureSource("grass", "grass", (0, 0, 512, 246), (0, 266, 512, 512)),
    TextureSource("gravel", "gravel", (0, 0, 512, 246), (0, 266, 512, 512)),
    TextureSource(
        "galaxies",
        "hubble_deep_field",
        (0, 0, 872, 490),
        (0, 510, 872, 1000),
        zoom=0.5,
        gamma=0.5,
    ),
    TextureSource("vessels", "retina", (190, 360, 660, 1120), (745, 360, 1215, 1120), zoom=0.4),
    TextureSource("wood", "coffee", (130, 0, 400, 75), (225, 490, 398, 600), zoom=2.0),
)


def load_picture(name: str) -> np.ndarray:
    """Reads one of the pictures named in ``LICENSES``.

    Args:
        name: Its scikit-image name, for example ``"chelsea"``.

    Returns:
        uint8, (H, W, 3) or (H, W).

    Raises:
        UserError: Nobody knows the name, or scikit-image is not installed.
    """
    if name not in LICENSES:
        raise UserError(f"no demo picture is called {name!r}; choose one of {', '.join(LICENSES)}")
    data = package("skimage.data")
    return np.asarray(getattr(data, name)())


def photographs() -> dict[str, np.ndarray]:
    """Returns the demo's photographs by name: uint8 RGB, (H, W, 3), each of its own size."""
    return {name: load_picture(name) for name in PHOTOGRAPHS}


def load_texture(source: TextureSource, split: str) -> np.ndarray:
    """Cuts one class's patch for one split and removes what is not texture.

    Grey, zoomed, without slow changes of light, zero mean and unit variance, at most three
    standard deviations from zero: level, contrast and colour tell nothing about the class.

    Args:
        source: The class.
        split: ``"train"`` or ``"val"``.

    Returns:
        float32, (H, W).
    """
    top, left, bottom, right = source.box(split)
    patch = Image.fromarray(load_picture(source.picture)[top:bottom, left:right]).convert("L")
    size = (round(patch.width * source.zoom), round(patch.height * source.zoom))
    patch = patch.resize(size, Image.Resampling.BICUBIC)
    return _flatten((np.asarray(patch, np.float32) / 255.0) ** source.gamma)


def _flatten(gray: np.ndarray, sigma: float = 16.0) -> np.ndarray:
    gaussian_filter = package("scipy.ndimage").gaussian_filter

    detail = gray - gaussian_filter(gray, sigma, mode="reflect")
    detail -= detail.mean()
    detail /= detail.std()
    return np.clip(detail, -3.0, 3.0)
