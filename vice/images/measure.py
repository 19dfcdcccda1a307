"""Measuring how the images of a folder are read: their kind, and the percentiles of a scale."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np

from vice.errors import UserError
from vice.images.lists import list_images
from vice.images.read import read_stored
from vice.images.reading import Reading
from vice.images.reading_options import ImageReading, Scale
from vice.images.refusals import ImageError
from vice.images.stored_samples import Samples
from vice.runtime.threads import cores

logger = logging.getLogger(__name__)
#: Images that are measured, evenly spread over the list, and pixels of each of types whose every
#: value cannot be counted.
MOST_IMAGES, MOST_PIXELS = 256, 2**16
THREADS = 4
_Kind: TypeAlias = tuple[str, int, int]


def measure(path: str | Path, asked: ImageReading) -> Reading:
    """Finds out how the images of a folder are read, and says it.

    Percentiles are of each band by itself, over at most `MOST_IMAGES` images: of samples of at most
    16 bits over every pixel, of others over at most `MOST_PIXELS` of each image, evenly spread.
    Percentile q of n values is the least value that at least q % of them do not exceed. Values that
    are not finite are left out.

    Args:
        path: Folder or list of images.
        asked: What is known of it.

    Returns:
        The reading, of the kind that most images are of.

    Raises:
        UserError: No image can be read so, bands have to be chosen, a scale has to be stated, or
            the images hold one value alone.
    """
    paths = list_images(path)
    if len(paths) > MOST_IMAGES:
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, MOST_IMAGES).astype(int)]
    with ThreadPoolExecutor(min(THREADS, cores())) as pool:
        looks = list(pool.map(lambda each: _look(each, asked), paths))
    counts = [look for look in looks if isinstance(look, _Counts)]
    refused = [look for look in looks if isinstance(look, ImageError)]
    if not counts:
        raise UserError(f"{path}: none of {len(paths)} images can be read so; {refused[0]}")
    kinds = Counter(each.kind for each in counts)
    kind = kinds.most_common(1)[0][0]
    chosen = [each for each in counts if each.kind == kind]
    reading = _reading(str(path), asked, kind, chosen)
    _say(str(path), reading, chosen, kinds, refused)
    return reading


class _Counts:
    """What an image holds: how often each value occurs, of each band that is read."""

    def __init__(self, samples: Samples) -> None:
        values = samples.values
        self.kind: _Kind = (samples.dtype, samples.stored, values.shape[2])
        self.pages, self.broken = samples.pages, 0
        self.bands: list[tuple[np.ndarray, np.ndarray]] = []
        flat = values.reshape(-1, values.shape[2])
        if values.dtype.itemsize > 2 or values.dtype.kind == "f":
            flat = flat[:: -(-len(flat) // MOST_PIXELS)]
        for band in range(flat.shape[1]):
            column = flat[:, band]
            finite = column[np.isfinite(column)]
            self.broken += len(column) - len(finite)
            self.bands.append(np.unique(finite, return_counts=True))


def _look(path: Path, asked: ImageReading) -> _Counts | ImageError:
    try:
        return _Counts(read_stored(path, page=asked.page or 1, bands=asked.bands))
    except ImageError as error:
        return error


def _reading(path: str, asked: ImageReading, kind: _Kind, counts: Sequence[_Counts]) -> Reading:
    samples, stored, read = kind
    if read not in (1, 3):
        raise UserError(
            f"{path}: its images have {stored} bands: choose the three that are read as red, green "
            "and blue, or one as gray, such as bands 4,3,2"
        )
    if asked.scale is None and samples != "uint8":
        raise UserError(
            f"{path}: its images have samples of {samples}, and nothing says which values are "
            "black and white: state a scale, such as 0,4095, or p1,p99 for percentiles of them"
        )
    if not any(len(values) for each in counts for values, _ in each.bands):
        raise UserError(f"{path}: all values of its images are NaN or infinite: nothing to read")
    scale = Scale(0, 255, False) if asked.scale is None else Scale.of(asked.scale)
    limits = [(scale.low, scale.high)] * read
    if scale.percentiles:
        limits = [
            _percentiles([each.bands[band] for each in counts], scale) for band in range(read)
        ]
    for number, (low, high) in enumerate(limits, 1):
        if not low < high:
            raise UserError(
                f"{path}: {scale.low:g} % and {scale.high:g} % of the values of band {number} that "
                f"is read end at {low:g} alike: give percentiles further apart, or stored values"
            )
    black, white = zip(*limits, strict=True)
    page = asked.page or 1
    return Reading(samples, stored, asked.bands, page, black, white, asked.scale, len(counts))


def _percentiles(
    counts: Sequence[tuple[np.ndarray, np.ndarray]], scale: Scale
) -> tuple[float, float]:
    """The values at both percentiles of one band of several images."""
    values = np.concatenate([values for values, _ in counts])
    times = np.concatenate([times for _, times in counts])
    if not len(values):
        return 0.0, 0.0
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(times[order])
    # Ceiling: at least so many values do not exceed it; the first percentile is a value, too.
    wanted = np.maximum(1, np.ceil(reached[-1] * np.array([scale.low, scale.high]) / 100))
    low, high = values[order][np.searchsorted(reached, wanted)]
    return float(low), float(high)


def _say(
    path: str,
    reading: Reading,
    counts: Sequence[_Counts],
    kinds: Counter[_Kind],
    refused: Sequence[ImageError],
) -> None:
    outside = total = 0
    for each in counts:
        for band, (values, times) in enumerate(each.bands):
            beyond = (values < reading.black[band]) | (values > reading.white[band])
            outside, total = outside + int(times[beyond].sum()), total + int(times.sum())
    broken = sum(each.broken for each in counts)
    pages = sum(each.pages > 1 for each in counts)
    logger.info(
        "%s: read as %s, by %d images; %.2g %% of their values lie outside and are clipped%s%s",
        path, reading, len(counts), 100 * outside / max(1, total),
        f"; {broken} values are NaN or infinite" if broken else "",
        f"; of {pages} images with several pages, page {reading.page} alone" if pages else "",
    )  # fmt: skip
    others = sum(kinds.values()) - len(counts)
    if others or refused:
        shown = ", ".join(
            f"{count} with {stored} bands of {samples}"
            for (samples, stored, _), count in kinds.most_common()[1:]
        )
        logger.warning(
            "%s: %d of %d images that were measured are of another kind and are not read%s%s",
            path, others + len(refused), sum(kinds.values()) + len(refused),
            f": {shown}" if shown else "",
            f"; the first that cannot be read: {refused[0]}" if refused else "",
        )  # fmt: skip
