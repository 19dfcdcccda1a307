"""A labelled data set made on the spot: mosaics of real textures with exact labels.

Every segment of a mosaic shows one texture. All segments have nearly the same brightness, contrast
and colour, so texture alone tells the class. (Given a brightness of its own, a segment could be
recognised in another view by that, and a network would never have to look at texture.) Train and
val mosaics are cut from disjoint rectangles of the source pictures (see
``vice.experiments.demo.textures``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vice.errors import UserError
from vice.experiments.demo.textures import LICENSES, SOURCES, SPLITS, load_texture, photographs
from vice.runtime.progress import progress

__all__ = ["CLASSES", "MosaicStyle", "draw_mosaic", "make_mosaics", "photographs"]

CLASSES = tuple(source.name for source in SOURCES)
_TITLE = "ViCE demo: mosaics of real textures"


@dataclass(frozen=True)
class MosaicStyle:
    """How a mosaic looks.

    Attributes:
        segments: Smallest and largest number of segments; no two share a class.
        warp: Bend of the borders, as a share of the mosaic's side.
        scale: Range of the size change of a texture, drawn log-uniformly.
        brightness: Range of a segment's mean, in grey levels.
        contrast: Range of a segment's standard deviation, in grey levels.
        tint: Largest shift of a channel's mean from the segment's brightness, in grey levels.
    """

    segments: tuple[int, int] = (3, 6)
    warp: float = 0.05
    scale: tuple[float, float] = (0.8, 1.25)
    brightness: tuple[float, float] = (118.0, 138.0)
    contrast: tuple[float, float] = (25.0, 30.0)
    tint: float = 6.0


def make_mosaics(
    root: str | Path,
    *,
    seed: int = 0,
    train: int = 240,
    val: int = 60,
    size: int = 160,
    style: MosaicStyle | None = None,
) -> Path:
    """Writes the data set in the labelled-folder layout.

    ``ROOT/images/{train,val}/NNNN.png`` (RGB), ``ROOT/labels/{train,val}/NNNN.png`` (uint8 class
    index, exact at each pixel), ``ROOT/classes.txt`` and ``ROOT/README.txt``. Mosaic number i
    depends on the seed, the split and i alone: the same call writes the same bytes, and a longer
    set starts with the shorter one.

    Args:
        root: Folder to write; mosaics that an earlier call left there are replaced.
        seed: Fixes every mosaic.
        train: Number of train mosaics.
        val: Number of val mosaics.
        size: Side of a mosaic, in pixels.
        style: How a mosaic looks; None means the defaults.

    Returns:
        The root.

    Raises:
        UserError: A count or the size makes no sense, or ``root`` holds something else.
    """
    root, style = Path(root), style or MosaicStyle()
    _check(root, train, val, size)
    root.mkdir(parents=True, exist_ok=True)
    (root / "README.txt").write_text(_readme(seed, size), encoding="utf-8")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    for split, count in zip(SPLITS, (train, val), strict=True):
        textures = [load_texture(source, split) for source in SOURCES]
        images = _empty_folder(root / "images" / split)
        labels = _empty_folder(root / "labels" / split)
        for index in progress(range(count), count, f"making {split} mosaics"):
            rng = np.random.default_rng([seed, SPLITS.index(split), index])
            image, label = draw_mosaic(textures, size, rng, style)
            Image.fromarray(image).save(images / f"{index:04d}.png")
            Image.fromarray(label).save(labels / f"{index:04d}.png")
    return root


def draw_mosaic(
    textures: list[np.ndarray],
    size: int,
    rng: np.random.Generator,
    style: MosaicStyle | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one mosaic.

    Args:
        textures: One float patch (h, w) for each class, zero mean and unit variance.
        size: Side of the mosaic, in pixels.
        rng: The only source of randomness.
        style: How it looks; None means the defaults.

    Returns:
        The image, uint8 (size, size, 3), and the class of each pixel, uint8 (size, size).
    """
    style = style or MosaicStyle()
    low, high = style.segments
    count = min(int(rng.integers(low, high + 1)), len(textures))
    classes = rng.permutation(len(textures))[:count].astype(np.uint8)
    segments = _segments(size, count, style.warp, rng)
    image = np.empty((size, size, 3), np.uint8)
    for segment, index in enumerate(classes):
        inside = segments == segment
        if inside.any():
            rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            crop = _crop(textures[index], inside[box].shape, style.scale, rng)
            image[box][inside[box]] = _recolor(crop, style, rng)[inside[box]]
    return image, classes[segments]


def _segments(size: int, count: int, warp: float, rng: np.random.Generator) -> np.ndarray:
    """Voronoi cells of spread-out points under a smoothly bent plane: int, (size, size)."""
    points = _spread_points(count, rng) * size
    grid = np.moveaxis(np.mgrid[:size, :size], 0, -1).astype(np.float32)
    bend = np.stack([_smooth_field(size, rng) for _ in range(2)], -1)
    offsets = (grid + warp * size * bend)[:, :, None] - points
    return (offsets**2).sum(-1).argmin(-1)


def _spread_points(count: int, rng: np.random.Generator, tries: int = 12) -> np.ndarray:
    """Points in the unit square, each the farthest of several candidates: (count, 2)."""
    points = rng.uniform(0.1, 0.9, (1, 2))
    while len(points) < count:
        candidates = rng.uniform(0.1, 0.9, (tries, 2))
        distance = np.linalg.norm(candidates[:, None] - points[None], axis=-1).min(1)
        points = np.vstack([points, candidates[distance.argmax()]])
    return points.astype(np.float32)


def _smooth_field(size: int, rng: np.random.Generator, knots: int = 5) -> np.ndarray:
    """A slow random field of unit variance at its knots: float32, (size, size)."""
    coarse = rng.standard_normal((knots, knots)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def _crop(
    texture: np.ndarray,
    shape: tuple[int, ...],
    scale: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """A random piece of the texture, turned, flipped and resized to ``shape``."""
    texture = texture if rng.random() < 0.5 else texture.T
    texture = texture[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
    zoom = float(np.exp(rng.uniform(*np.log(scale))))
    height, width = (max(2, round(side / zoom)) for side in shape)
    missing = (max(0, height - texture.shape[0]), max(0, width - texture.shape[1]))
    if any(missing):
        texture = np.pad(texture, ((0, missing[0]), (0, missing[1])), mode="reflect")
    top = int(rng.integers(texture.shape[0] - height + 1))
    left = int(rng.integers(texture.shape[1] - width + 1))
    piece = Image.fromarray(np.ascontiguousarray(texture[top : top + height, left : left + width]))
    return np.asarray(piece.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _recolor(crop: np.ndarray, style: MosaicStyle, rng: np.random.Generator) -> np.ndarray:
    """Gives a texture a random level, contrast and tint: uint8, (h, w, 3)."""
    mean = rng.uniform(*style.brightness) + rng.uniform(-style.tint, style.tint, 3)
    spread = rng.uniform(*style.contrast) * rng.uniform(0.8, 1.2, 3)
    return np.clip(np.rint(mean + crop[..., None] * spread), 0, 255).astype(np.uint8)


def _check(root: Path, train: int, val: int, size: int) -> None:
    for name, value, least in (("train", train, 0), ("val", val, 0), ("size", size, 32)):
        if value < least:
            raise UserError(f"{name}={value} mosaics cannot be made: give at least {least}")
    readme = root / "README.txt"
    ours = readme.is_file() and readme.read_text(encoding="utf-8").startswith(_TITLE)
    if root.exists() and not ours and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} is not empty and not a mosaic data set: name a new folder")


def _empty_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.png"):
        stale.unlink()
    return folder


def _readme(seed: int, size: int) -> str:
    lines = [
        _TITLE,
        "",
        "Made at run time by "
        f"vice.experiments.demo.mosaics.make_mosaics(seed={seed}, size={size}).",
        "images/<split>/NNNN.png are RGB; labels/<split>/NNNN.png hold the class index of each",
        "pixel (the line number in classes.txt, from 0). Labels are exact; nothing is ignored.",
        "Brightness, contrast and tint are nearly alike everywhere: texture alone gives the class.",
        "",
        "Train and val use disjoint rectangles (top, left, bottom, right) of the same pictures,",
        "all of which travel with scikit-image:",
    ]
    lines += [
        f"  {s.name}: {s.picture}, train {s.train}, val {s.val} ({LICENSES[s.picture]})"
        for s in SOURCES
    ]
    return "\n".join(lines) + "\n"
