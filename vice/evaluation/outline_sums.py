"""Scores of outlines as sums over images, for their intervals and differences."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vice.evaluation.boundaries import SegmentScores
from vice.evaluation.image_sums import share

#: Name of the sums in ``per_image.npz``.
OUTLINES = "outlines"
#: Of each image, in this order: what `vice.evaluation.boundaries.summarize` makes its scores of.
OUTLINE_SUMS = (
    *("found", "right", "wanted", "hit"),
    *("f_score", "has_f_score", "achievable_accuracy", "undersegmentation", "images"),
)


def outline_sums(scores: Iterable[SegmentScores]) -> np.ndarray:
    """The sums of ``OUTLINE_SUMS`` of each image, float64 (N, S)."""
    rows = [
        (
            *(each.counts.found, each.counts.right, each.counts.wanted, each.counts.hit),
            *(each.counts.f_score or 0, each.counts.f_score is not None),
            *(each.achievable_accuracy, each.undersegmentation, 1),
        )
        for each in scores
    ]
    return np.array(rows, float).reshape(-1, len(OUTLINE_SUMS))


def outline_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Those scores of `vice.evaluation.boundaries.summarize` that are shares.

    Args:
        sums: (R, S), each row summed over some images.

    Returns:
        Name to float64 (R,), NaN where there is none.
    """
    found, right, wanted, hit, f_score, has_f, accuracy, spilled, images = sums.T
    precision, recall = share(right, found), share(hit, wanted)
    total = precision + recall
    harmonic = np.where(total == 0, 0.0, 2 * precision * recall / np.where(total == 0, 1, total))
    return {
        "boundary_precision": precision,
        "boundary_recall": recall,
        "boundary_f": harmonic,
        "mean_image_f": share(f_score, has_f),
        "achievable_accuracy": share(accuracy, images),
        "undersegmentation": share(spilled, images),
    }
