"""Confidence intervals of scores: a bootstrap over the images of the scored split.

An image, not a pixel, is what is drawn: pixels of one image are far from independent. The interval
says how far a score would move with other images of the same kind; it knows nothing of seeds,
trainings or how the split was chosen.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, section 13.3 (percentile interval).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from vice.evaluation.image_counts import ImageTables
from vice.parts import package

#: Number of resamples, and seed of all of them.
RESAMPLES = 1000
SEED = 0
#: Share of the resampled scores that an interval holds.
LEVEL = 0.95
METHOD = "percentile bootstrap over images"
#: Where a matching is taken anew: a resample has fewer different images, whose labels it is taken
#: on, and so scores higher than it should; their spread counts, not where they lie.
CENTERED = f"{METHOD}, centered at the score"
#: Matchings on the scored labels, which are therefore taken anew in each resample.
MATCHED_ANEW = ("hungarian", "hungarian_iou")
#: Most bytes of resampled tables and weights that are held at once.
_MEMORY = 64 * 2**20
logger = logging.getLogger(__name__)

_METRICS = ("miou", "accuracy")
#: Name of all classes among their parts.
_WHOLE = ""

#: Resampled scores, float64 (R,) each, NaN where a resample has none: ``"miou"``, ``"accuracy"``.
ResampledScores = dict[str, np.ndarray]


def resampled_scores(
    tables: ImageTables,
    mappings: Mapping[str, Tensor | str],
    *,
    over: str = "present",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, ResampledScores]:
    """Scores of resamples of the images, drawn with replacement.

    Which images a resample holds depends on the seed, its number and the number of images alone, so
    that scores of several embedders on the same images are those of the same resamples. Sums of
    counts are exact, so that their order does not matter.

    Memory, beside the tables, is 24 bytes for each of their cells, and at most 64 MiB for
    resamples, or that of one resample if it takes more: 8 bytes for each image, 32 for each cell
    of a whole table.

    Args:
        tables: Counts of each image.
        mappings: Name to the class of each cluster, (K,), or to one of ``MATCHED_ANEW``: that
            matching on the counts of each resample (see `vice.scoring.CountTable`).
        over: As in `vice.evaluation.results.scores`.
        resamples: Number of resamples R.
        seed: Of all resamples.

    Returns:
        Name of the mapping to scores in [0, 1], float64 (R,), NaN for a resample without a
        labelled pixel.
    """
    drawn = _resample(tables, mappings, {_WHOLE: range(tables.num_classes)}, over, resamples, seed)
    return {name: of[_WHOLE] for name, of in drawn.items()}


def resampled_mapping(name: str, mapping: Tensor) -> Tensor | str:
    """What `resampled_scores` takes for a matching: its mapping, or its name if matched anew."""
    return name if name in MATCHED_ANEW else mapping


def is_matched_anew(readout: str) -> bool:
    """Whether the resampled scores of a read-out are centered: it is named by its matching.

    Args:
        readout: For example ``27 hungarian``, or ``before 27 hungarian mIoU``.
    """
    return not {*readout.split()}.isdisjoint(MATCHED_ANEW)


def score_intervals(
    tables: ImageTables,
    mappings: Mapping[str, Tensor | str],
    parts: Mapping[str, Sequence[int]] | None = None,
    *,
    over: str = "present",
) -> dict[str, dict[str, Any] | None]:
    """What a result says of the intervals of its scores.

    Args:
        tables: Counts of each image.
        mappings: As in `resampled_scores`.
        parts: Name to the classes of parts that are scored for themselves, too, under the mapping
            of the whole (see `vice.scoring.CountTable.restricted`).
        over: As in `vice.evaluation.results.scores`.

    Returns:
        Name of the mapping to ``miou`` and ``accuracy`` (low and high, see `interval`),
        ``method``, ``level``, ``resamples``, ``seed``, ``images``, and ``undefined``: how many
        resamples held no labelled pixel and were left out. Where the matching is taken anew, the
        resampled scores are moved until the score is their median. With parts, ``parts``: name to
        the same of each. None where there is a single image.
    """
    if tables.images < 2:
        logger.warning("no interval: it takes at least two scored images, not %d", tables.images)
        return dict.fromkeys(mappings)
    chosen = {_WHOLE: range(tables.num_classes), **(parts or {})}
    intervals: dict[str, dict[str, Any] | None] = {}
    counts = tables.total().counts.numpy()[None].astype(float)
    for name, of in _resample(tables, mappings, chosen, over, RESAMPLES, SEED).items():
        mapping, said = mappings[name], {}
        for part, scores in of.items():
            point = _part_scores(counts, mapping, {part: chosen[part]}, over)[part][:, 0]
            center = dict(zip(_METRICS, point, strict=True)) if isinstance(mapping, str) else None
            said[part] = describe_interval(scores, tables.images, center)
        whole = said.pop(_WHOLE)
        intervals[name] = {**whole, "parts": said} if said else whole
    return intervals


def describe_interval(
    scores: ResampledScores, images: int, center: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Intervals of resampled scores and how they were found, for ``results.json``.

    Args:
        scores: As `resampled_scores` gives them.
        images: Number of scored images.
        center: The scores themselves, where a matching is taken anew in each resample.
    """
    if center is not None:
        scores = {name: centered(values, center[name]) for name, values in scores.items()}
    return {
        **{name: interval(values) for name, values in scores.items()},
        **how_found(images, METHOD if center is None else CENTERED),
        "undefined": int(np.isnan(scores["miou"]).sum()),
    }


def centered(values: np.ndarray, score: float) -> np.ndarray:
    """Resampled scores that are moved until the score is their median, and kept in [0, 1].

    Args:
        values: (R,); NaNs stay.
        score: Of all images; NaN moves nothing.
    """
    known = values[~np.isnan(values)]
    if len(known) == 0 or np.isnan(score):
        return values
    return (values + (score - np.median(known))).clip(0, 1)


def how_found(images: int, method: str = METHOD) -> dict[str, Any]:
    """What a result says of how its intervals were found.

    Args:
        images: Number of scored images.
        method: In words.
    """
    return {
        "method": method,
        "level": LEVEL,
        "resamples": RESAMPLES,
        "seed": SEED,
        "images": images,
    }


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
    """The percentile interval of resampled values.

    Args:
        values: (R,); NaNs are left out.
        level: Share of the values that it holds.

    Returns:
        Low and high; None if no value is left.
    """
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def interval_text(found: Sequence[float] | None) -> str:
    """An interval of shares in percent, for example `` [24.10, 26.02]``; empty where is none."""
    return "" if found is None else f" [{100 * found[0]:.2f}, {100 * found[1]:.2f}]"


def draw_images(images: int, resample: int, seed: int = SEED) -> np.ndarray:
    """How often each image is in a resample: int64 (N,), with the sum N."""
    chosen = np.random.default_rng([seed, resample]).integers(images, size=images)
    return np.bincount(chosen, minlength=images)


def _resample(
    tables: ImageTables,
    mappings: Mapping[str, Tensor | str],
    parts: Mapping[str, Sequence[int]],
    over: str,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, ResampledScores]]:
    """Mapping to part of the classes to its scores."""
    found: dict[tuple[str, str], list[np.ndarray]] = {(m, p): [] for m in mappings for p in parts}
    for counts in _resampled_counts(tables, resamples, seed):
        for name, mapping in mappings.items():
            for part, scored in _part_scores(counts, mapping, parts, over).items():
                found[name, part].append(scored)
    return {
        name: {
            part: dict(zip(_METRICS, np.concatenate(found[name, part], 1), strict=True))
            for part in parts
        }
        for name in mappings
    }


def _part_scores(
    counts: np.ndarray,
    mapping: Tensor | str,
    parts: Mapping[str, Sequence[int]],
    over: str,
) -> dict[str, np.ndarray]:
    """Scores (2, R) of parts of the classes, of tables (R, K, C) under one mapping."""
    classes = _match(counts, mapping) if isinstance(mapping, str) else mapping.numpy()[None]
    confusion = _confusion(counts, classes)
    return {part: _scores(confusion, list(indices), over) for part, indices in parts.items()}


def _resampled_counts(tables: ImageTables, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Tables of resamples, float64 (R', K, C), some at a time; whole numbers below 2^53."""
    csr_matrix = package("scipy.sparse").csr_matrix

    shape = tables.images, tables.num_cells
    by_image = csr_matrix((tables.counts.astype(float), tables.cells, tables.starts), shape)
    by_cell = by_image.T.tocsr()
    chunk = max(1, _MEMORY // (8 * (4 * tables.num_cells + tables.images)))
    for first in range(0, resamples, chunk):
        numbers = range(first, min(first + chunk, resamples))
        weights = np.stack([draw_images(tables.images, r, seed) for r in numbers], 1, dtype=float)
        sums = np.ascontiguousarray((by_cell @ weights).T)
        yield sums.reshape(len(numbers), tables.num_clusters, tables.num_classes)


def _match(counts: np.ndarray, name: str) -> np.ndarray:
    """A matching of ``MATCHED_ANEW`` of many tables: (R, K, C) to classes (R, K)."""
    linear_sum_assignment = package("scipy.optimize").linear_sum_assignment

    if name == "hungarian":
        worth = counts
        most = counts.sum(1).argmax(1)
        classes = np.where(counts.any(2), counts.argmax(2), most[:, None])
    else:
        union = counts.sum(2, keepdims=True) + counts.sum(1, keepdims=True) - counts
        worth = counts / np.maximum(union, 1)
        classes = worth.argmax(2)
    for table, mapping in zip(worth, classes, strict=True):
        clusters, matched = linear_sum_assignment(table, maximize=True)
        mapping[clusters] = matched
    return classes


def _confusion(counts: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Predicted by true classes (R, C, C), of tables (R, K, C) under mappings (R, K) or (1, K)."""
    one_hot = (np.arange(counts.shape[2])[:, None] == classes[:, None]).astype(float)
    return np.matmul(one_hot, counts)


def _scores(confusion: np.ndarray, part: list[int], over: str) -> np.ndarray:
    """MIoU and accuracy, (2, R), among some classes of confusion matrices (R, C, C)."""
    confusion = confusion[:, part][:, :, part]
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    predicted, true = confusion.sum(2), confusion.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = hits / (predicted + true - hits)
        occurs = ~np.isnan(iou)
        mean_over = len(part) if over == "all" else occurs.sum(1)
        miou = np.where(occurs, iou, 0).sum(1) / mean_over
        return np.stack([miou, hits.sum(1) / true.sum(1)])
