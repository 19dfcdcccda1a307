"""Filling of a superpixel cache ahead of training, by many processes and machines."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vice.errors import OptionError, UserError
from vice.images import ImageError, Reading, read_image, standardize
from vice.runtime.interrupts import held_back
from vice.runtime.preemption import PERSONAL
from vice.runtime.progress import progress
from vice.superpixels.source import Superpixels


@dataclass
class FillReport:
    """What filling a cache did.

    Attributes:
        images: Images looked at.
        made: Maps that were not there yet.
        size: Bytes of the maps of all these images.
        broken: A message for each image that cannot be read; training skips those, too.
        unwritten: Why, for each map that the disk did not take.
    """

    images: int = 0
    made: int = 0
    size: int = 0
    broken: list[str] = field(default_factory=list)
    unwritten: list[str] = field(default_factory=list)


def fill_cache(
    paths: Sequence[str | Path],
    standardize_options: Mapping[str, Any],
    superpixel_options: Mapping[str, Any],
    *,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    reading: Reading | None = None,
) -> FillReport:
    """Makes the superpixels of images and keeps them on disk.

    Maps that are there and whole are kept, so a stopped call can be repeated, and any number of
    calls may share one folder.

    Args:
        paths: Image files.
        standardize_options: Arguments of `vice.images.standardize`, those of the training.
        superpixel_options: Arguments of `vice.superpixels.Superpixels`, those of the training.
        workers: Processes.
        shard: (i, n) takes every n-th image from the i-th on, for n machines.
        reading: As in `vice.images.read_image`, that of the training.

    Returns:
        What was done.

    Raises:
        UserError: No cache folder or one that cannot be made, a method that needs none, or a shard
            out of range.
    """
    if superpixel_options.get("cache_dir") is None:
        raise OptionError(
            "no cache folder: set {Superpixels.cache_dir}=FOLDER, here and in training"
        )
    number, shards = shard
    if not 0 <= number < shards or workers < 1:
        raise UserError(f"shard {number} of {shards} with {workers} workers: out of range")
    # What the options lack is found here: a pool would start its failing processes for ever.
    superpixels = Superpixels(**superpixel_options)
    if superpixels.cache is None:
        raise UserError(
            f"superpixels of method {superpixels.method!r} are not kept: they are quicker made "
            "than read, or on disk already"
        )
    mine, report = list(paths)[number::shards], FillReport()
    work = (dict(standardize_options), dict(superpixel_options), reading)
    context = multiprocessing.get_context("spawn")
    # SIGINT reaches the whole terminal; these processes are ended by the one that started them.
    with held_back(PERSONAL):
        started = context.Pool(workers, _start, work)
    with started as pool:
        results = pool.imap_unordered(_fill_one, map(str, mine), chunksize=4)
        for made, size, error, unwritten in progress(results, len(mine), "superpixels"):
            report.images += 1
            report.made += made
            report.size += size
            report.broken += [error] if error else []
            report.unwritten += [unwritten] if unwritten else []
    return report


_options: dict[str, Any] = {}
_superpixels: Superpixels | None = None
_reading: Reading | None = None


def _start(
    standardize_options: dict[str, Any],
    superpixel_options: dict[str, Any],
    reading: Reading | None,
) -> None:
    global _options, _superpixels, _reading
    import cv2

    # Thread oversubscription: the processes share the cores between them.
    cv2.setNumThreads(1)
    _options, _superpixels = standardize_options, Superpixels(**superpixel_options)
    _reading = reading


def _fill_one(path: str) -> tuple[bool, int, str, str]:
    """Whether a map was made, its size, what is wrong with the image, and with the disk."""
    assert _superpixels is not None and _superpixels.cache is not None
    try:
        image = standardize(read_image(path, reading=_reading), **_options)
    except ImageError as error:
        return False, 0, str(error), ""
    file = _superpixels.cache.path(image)
    there = file.is_file()
    _superpixels(image)
    if not file.is_file():
        return False, 0, "", _superpixels.cache.write_error
    return not there, file.stat().st_size, "", ""
