"""Counts and sums of each image that the scores of a sample of pixels are made of.

The scores of `vice.evaluation.positional_bias` are of a sample of the scored split; here stands
what each image adds to them, of which resamples of the images are made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vice.evaluation.image_counts import ImageTables
from vice.evaluation.image_sums import sum_intervals
from vice.evaluation.intervals import resampled_mapping, score_intervals

AXES = ("x", "y")
#: Sums of each image: pixels, positions, their squares and squared errors, along both axes.
R2_SUMS = ("pixels", "x", "y", "x2", "y2", "error_x", "error_y")
#: Name of the counts of a probe; of clusters it is their number.
LINEAR = "linear"
#: Name of the sums.
R2 = "r2"


class PositionCounts:
    """What each image adds to the scores of a sample, and their intervals.

    Args:
        images: int64 (N,), image of each pixel of the sample.
        number: Number of scored images.
        num_classes: Number of classes C.
        over: As in `vice.evaluation.results.scores`.

    Attributes:
        tables: Name to counts, for ``per_image.npz``.
        sums: Name to sums.
    """

    def __init__(self, images: Tensor, number: int, num_classes: int, over: str) -> None:
        self._images, self._number = images, number
        self._classes, self._over = num_classes, over
        self.tables: dict[str, ImageTables] = {}
        self.sums: dict[str, np.ndarray] = {}

    def add_classes(
        self,
        name: str,
        predicted: Tensor,
        labels: Tensor,
        mappings: dict[str, Tensor],
        clusters: int,
    ) -> dict[str, Any]:
        """Counts predictions, and resamples their scores.

        Args:
            name: Of the counts.
            predicted: int64 (N,), classes or clusters.
            labels: int64 (N,).
            mappings: Name of the matching to the class of each cluster.
            clusters: Number of clusters K; of classes, where predictions are classes.

        Returns:
            Matching to what `vice.evaluation.intervals.score_intervals` gives.
        """
        cells = clusters * self._classes
        flat = (self._images * clusters + predicted) * self._classes + labels
        found = torch.unique(flat, return_counts=True)
        flat, counts = found[0].numpy(), found[1].numpy()
        starts = np.searchsorted(flat, np.arange(self._number + 1) * cells)
        self.tables[name] = ImageTables(
            clusters,
            self._classes,
            starts.astype(np.int64),
            (flat % cells).astype(np.int32),
            counts.astype(np.int32),
        )
        resampled = {key: resampled_mapping(key, each) for key, each in mappings.items()}
        return score_intervals(self.tables[name], resampled, over=self._over)

    def add_positions(self, name: str, errors: Tensor, positions: Tensor) -> dict[str, Any] | None:
        """Adds up errors of predicted positions, and resamples their R².

        Args:
            name: Of the sums.
            errors: float64 (N, 2).
            positions: (N, 2).

        Returns:
            What `vice.evaluation.image_sums.sum_intervals` gives.
        """
        places = positions.double()
        rows = torch.cat(
            [torch.ones(len(places), 1).double(), places, places.square(), errors.square()], 1
        )
        sums = torch.zeros(self._number, len(R2_SUMS), dtype=torch.float64)
        self.sums[name] = sums.index_add_(0, self._images, rows).numpy()
        return sum_intervals(self.sums[name], r2_scores)


def r2_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """R² along both axes, of sums (R, S) over images: each float64 (R,).

    NaN where positions do not differ.
    """
    pixels = np.maximum(sums[:, :1], 1)
    total = sums[:, 3:5] - sums[:, 1:3] ** 2 / pixels
    # Rounding: positions are below 1, so that a total is a difference of numbers below the pixels.
    differ = total > 1e-12 * pixels
    r2 = np.where(differ, 1 - sums[:, 5:7] / np.where(differ, total, 1), np.nan)
    return dict(zip(AXES, r2.T, strict=True))
