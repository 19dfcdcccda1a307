"""Intervals of scores that are made of sums over images, such as shares, means and R².

Each image has some sums; those of a resample are sums of its images' (drawn as in
`vice.evaluation.intervals`), and a score is a function of them. Sums are taken in the order of the
images, so that ranks do not matter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from vice.evaluation.intervals import RESAMPLES, SEED, draw_images, how_found, interval

logger = logging.getLogger(__name__)

#: Sums (R, S) to the scores of each row, float64 (R,), NaN where there is none.
Scorer = Callable[[np.ndarray], dict[str, np.ndarray]]


def resampled_sums(sums: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Sums of resamples of the images, drawn with replacement.

    Args:
        sums: float64 (N, S), of each image.
        resamples: Number of resamples R.
        seed: Of all resamples.

    Returns:
        float64 (R, S).
    """
    drawn = (draw_images(len(sums), number, seed) for number in range(resamples))
    return np.stack([weights @ sums for weights in drawn])


def sum_intervals(sums: np.ndarray, scorer: Scorer) -> dict[str, Any] | None:
    """What a result says of the intervals of such scores.

    Args:
        sums: float64 (N, S), of each image.
        scorer: Makes the scores of sums.

    Returns:
        Name of the score to low and high (None where no resample has it), ``method``, ``level``,
        ``resamples``, ``seed``, ``images`` and ``undefined``: how many resamples lacked each score
        and were left out of its interval. None where there is a single image.
    """
    if len(sums) < 2:
        logger.warning("no interval: it takes at least two scored images, not %d", len(sums))
        return None
    scores = scorer(resampled_sums(sums))
    return {
        **{name: interval(values) for name, values in scores.items()},
        **how_found(len(sums)),
        "undefined": {name: int(np.isnan(values).sum()) for name, values in scores.items()},
    }


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """One sum as a share of another; NaN of nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
