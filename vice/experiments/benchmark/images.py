"""Superpixels, their cache, and views."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from vice.experiments.benchmark.data import texture
from vice.experiments.benchmark.superpixel_quality import quality
from vice.experiments.benchmark.timing import Measurement, one_core, time_in_turn
from vice.images import list_images, read_image
from vice.superpixels import Superpixels, backend, grid, slic
from vice.views import Views, ViewSampler
from vice.views.crop_resize import cut_views
from vice.views.photometric import Photometric

Calls: TypeAlias = dict[str, Callable[[], object]]

IMAGES_OF_COCO = 118_287


@one_core()
def superpixels(device: str, *, small: bool, folder: Path | None = None) -> list[Measurement]:
    """SLIC of the installed libraries, reading from the cache, and what the cache takes.

    Args:
        device: Not used: all of this happens on a core.
        small: Fewer images of the folder.
        folder: Real images to sample; else one texture, which compresses badly.
    """
    if folder is None:
        return _of_one(texture(480, 640), "one texture of 640 x 480, not decoded")
    paths = list_images(folder)
    some = [
        Path(paths[number])
        for number in np.linspace(0, len(paths) - 1, 5 if small else 40).round().astype(int)
    ]
    return _of_files(some, absolute=device != "cpu")


def _of_one(image: np.ndarray, what: str) -> list[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        cached = Superpixels(cache_dir=folder)
        cached(image)
        calls: Calls = {"slic": partial(slic, image), "cached": partial(cached, image)}
        seconds = time_in_turn({**calls, **_skimage(image)})
        notes = {"cached": f"{what}; {_cache_size(Path(folder), 1)}", "slic": what + _library()}
    return [
        Measurement(name, taken, "slic", taken / seconds["slic"], notes.get(name, what))
        for name, taken in seconds.items()
    ]


def _of_files(paths: list[Path], *, absolute: bool) -> list[Measurement]:
    """Decoding, making, writing and reading maps of real images, an image."""
    images = [read_image(path) for path in paths]

    def fill() -> None:
        with tempfile.TemporaryDirectory() as other:
            maker = Superpixels(cache_dir=other)
            for image in images:
                maker(image)

    with tempfile.TemporaryDirectory() as folder:
        cached = Superpixels(cache_dir=folder)
        calls: Calls = {
            "decoding": lambda: [read_image(path) for path in paths],
            "slic": lambda: [slic(image) for image in images],
            "slic, and writing its map": fill,
            "cached": lambda: [cached(image) for image in images],
        }
        seconds = time_in_turn(calls)
        size = _cache_size(Path(folder), len(paths))
    notes = {"cached": f"{len(paths)} images; {size}", "slic": "an image" + _library()}
    if absolute:
        hours = seconds["slic, and writing its map"] / len(paths) * IMAGES_OF_COCO / 3600
        notes["slic, and writing its map"] = f"{hours:.1f} hours of a core for COCO"
    return [
        Measurement(
            name, taken / len(paths), "slic", taken / seconds["slic"], notes.get(name, "an image")
        )
        for name, taken in seconds.items()
    ]


def _library() -> str:
    """Says so where another SLIC than OpenCV's is the yardstick."""
    if backend() == "opencv":
        return ""
    return "; scikit-image's SLIC, OpenCV's needs `pip install opencv-contrib-python-headless`"


def _cache_size(folder: Path, images: int) -> str:
    size = sum(file.stat().st_size for file in folder.rglob("*.npz")) / images
    whole = size * IMAGES_OF_COCO / 2**30
    return f"{size / 1024:.1f} KiB an image: {whole:.1f} GiB for {IMAGES_OF_COCO:,} images"


def _skimage(image: np.ndarray) -> Calls:
    return {name: partial(method, image) for name, method in _other_slic(768).items()}


def _other_slic(segments: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    try:
        from skimage.segmentation import slic as other
    except ImportError:
        return {}
    return {"scikit-image": partial(other, n_segments=segments, max_num_iter=5)}


def superpixel_outlines(folder: Path) -> list[Measurement]:
    """Quality on photographs that people have outlined, see `superpixel_quality`.

    Args:
        folder: BSDS500 in the layout of `quality`.
    """
    methods: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "OpenCV, region size 20": partial(slic, region_size=20),
        "grid, region size 20": lambda image: grid(image.shape[0], image.shape[1], 20),
        **_other_slic(400),
    }
    scores = quality(folder, methods)
    return [
        Measurement(name, 0.0, note=", ".join(f"{key} {value:.3f}" for key, value in row.items()))
        for name, row in scores.items()
    ]


@one_core()
def views(device: str, *, small: bool) -> list[Measurement]:
    """Five views of an image: where they lie and their pixels, then their colors, blur and noise.

    Views of 400 pixels come from 640 x 480, those of 256 from the squares of 320 pixels and
    superpixels of 10 that low resolution means (ViCE (BMVC), supplement).

    Args:
        device: Where `vice.views.crop_resize.cut_views` cuts them as well; all else happens on a
            core.
        small: Views of 256 pixels only.
    """
    yardstick = partial(slic, texture(480, 640))
    rows = []
    for side in (256,) if small else (400, 256):
        height, width, region = (320, 320, 10) if side == 256 else (480, 640, 20)
        image = texture(height, width)
        regions = slic(image, region_size=region)
        sampler = ViewSampler(num_views=5, size=side)
        calls: Calls = {
            "slic": yardstick,
            "kept": partial(
                sampler, image, regions, np.random.default_rng(0), sampler.edges(image)
            ),
            "cached": partial(_draw, sampler, image, regions, region, np.random.default_rng(0)),
            "whole": partial(_draw, sampler, image, None, region, np.random.default_rng(0)),
        }
        calls["colors"] = _coloring(sampler(image, regions, np.random.default_rng(1)))
        # Seconds of the processor: one core computes all of it, whatever others are busy with.
        seconds = time_in_turn(calls, clock=time.process_time)
        seconds["all, kept"] = seconds["kept"] + seconds["colors"]
        seconds["all, cached"] = seconds["cached"] + seconds["colors"]
        seconds["all, whole"] = seconds["whole"] + seconds["colors"]
        for name, label in (
            ("kept", "cut, superpixels and edges at hand"),
            ("cached", "cut, superpixels at hand"),
            ("whole", "cut, with SLIC"),
            ("colors", "colors, blur and noise"),
            ("all, kept", "all of it, superpixels and edges at hand"),
            ("all, cached", "all of it, superpixels at hand"),
            ("all, whole", "all of it, with SLIC"),
        ):
            ratio = seconds[name] / seconds["slic"]
            what = f"five views of {side} from {width} x {height}, {label}"
            note = _library().lstrip("; ")
            rows.append(Measurement(what, seconds[name], "SLIC of 640 x 480", ratio, note))
        rows.extend(_cutting(sampler, image, regions, seconds["slic"], device))
    return rows


def _draw(
    sampler: ViewSampler,
    image: np.ndarray,
    regions: np.ndarray | None,
    region_size: int,
    rng: np.random.Generator,
) -> Views:
    if regions is None:
        regions = slic(image, region_size=region_size)
    return sampler(image, regions, rng)


def _cutting(
    sampler: ViewSampler, image: np.ndarray, regions: np.ndarray, yardstick: float, device: str
) -> list[Measurement]:
    """What is left to a worker that does not cut, and cutting on a core and on the device."""
    placed = sampler.place(image, regions, np.random.default_rng(1))
    whole, rng = torch.from_numpy(image).to(device), np.random.default_rng(0)
    core: Calls = {
        "placed": lambda: sampler.place(image, regions, rng),
        "cut": lambda: sampler.cut(image, placed),
    }
    seconds = time_in_turn(core)
    cut = partial(cut_views, whole, placed.boxes, placed.flipped, sampler.shape)
    taken = time_in_turn({"cut": cut}, device=device)["cut"]
    what = f"five views of {sampler.shape[0]}"
    there = "one core" if device == "cpu" else "the GPU"
    return [
        Measurement(f"{what}, not cut", seconds["placed"], "SLIC", seconds["placed"] / yardstick),
        Measurement(f"cutting {what}, OpenCV", seconds["cut"], "SLIC", seconds["cut"] / yardstick),
        Measurement(
            f"cutting {what}, {there}", taken, "OpenCV on one core", taken / seconds["cut"]
        ),
    ]


def _coloring(views: Views) -> Callable[[], object]:
    change, rng = Photometric(), np.random.default_rng(0)
    return lambda: change.change_bytes(views.images, change.draw(rng, len(views)), views.noise)
