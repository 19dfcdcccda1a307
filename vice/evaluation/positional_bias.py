"""How much of where a pixel lies its embedding says, and what is left of the scores without it.

A network with padding can tell pixels by their place alone, and a data set whose classes keep to
places rewards it. Position is predicted from frozen vectors by least squares, fitted on one split
and scored on another. Then the directions that predict it are projected out along what vectors hold
of them, so that no linear map says more of the position than a constant, and vectors change as
little as can be (`fit_eraser`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vice.errors import UserError
from vice.evaluation.position_counts import AXES

#: Weight of the penalty on standardized features: least squares, but for copies of one another.
RIDGE = 1e-6
#: Share of a direction's variance that it must have in common with the position to be taken out.
LEAST = 0.01
_ROWS = 2**16


@dataclass(frozen=True)
class PositionProbe:
    """A linear map from vectors to positions.

    Attributes:
        weight: float64 (D, 2).
        bias: float64 (2,).
    """

    weight: Tensor
    bias: Tensor

    def r2(self, vectors: Tensor, positions: Tensor) -> dict[str, float | None]:
        """Share of the variance of each axis that is predicted: 1 of all, 0 of a constant, or less.

        Args:
            vectors: (N, D).
            positions: (N, 2).

        Returns:
            ``x`` and ``y``; None for an axis along which positions do not differ.
        """
        error = torch.zeros(2, dtype=torch.float64)
        for errors in self._errors(vectors, positions):
            error += errors.square().sum(0)
        centered = positions.double() - positions.double().mean(0)
        total = centered.square().sum(0)
        return {
            axis: float(1 - e / t) if t > 0 else None
            for axis, e, t in zip(AXES, error, total, strict=True)
        }

    def errors(self, vectors: Tensor, positions: Tensor) -> Tensor:
        """Predicted less true positions of vectors (N, D): float64 (N, 2)."""
        return torch.cat(list(self._errors(vectors, positions)))

    def _errors(self, vectors: Tensor, positions: Tensor) -> Iterator[Tensor]:
        for rows, wanted in zip(vectors.split(_ROWS), positions.split(_ROWS), strict=True):
            yield rows.double() @ self.weight + self.bias - wanted


def fit_position(vectors: Tensor, positions: Tensor, ridge: float = RIDGE) -> PositionProbe:
    """Minimizes mean squared error + ridge · Σ w², w being weights on standardized features.

    Args:
        vectors: Floating point (N, D).
        positions: (N, 2).
        ridge: Weight of the penalty, above 0. A constant feature gets the weight 0.

    Returns:
        The map, on features as they were given.

    Raises:
        UserError: Vectors that are not finite.
    """
    mean, moment, cross = _moments(vectors, positions)
    deviation = moment.diagonal().clamp(min=0).sqrt()
    # Rounding: a constant feature varies by it alone.
    inverse = torch.where(deviation > 1e-6 * mean.abs(), 1 / deviation, 0.0)
    system = inverse[:, None] * moment * inverse + ridge * torch.eye(len(mean)).double()
    weight = inverse[:, None] * torch.linalg.solve(system, inverse[:, None] * cross)
    return PositionProbe(weight, positions.double().mean(0) - mean @ weight)


@dataclass(frozen=True)
class PositionEraser:
    """An affine map that takes out of vectors what is linear in the position.

    Attributes:
        mean: float64 (D,), which it keeps.
        readers: float64 (D, r), directions that predict the position, r at most 2; of unit variance
            and uncorrelated.
        patterns: float64 (D, r), what vectors hold of each.
        correlations: Of each with the position, canonical, the greatest first.
        variance_share: Share of the vectors' variance that is taken out.
    """

    mean: Tensor
    readers: Tensor
    patterns: Tensor
    correlations: tuple[float, ...]
    variance_share: float

    def erase(self, vectors: Tensor) -> Tensor:
        """Vectors (N, D) without it."""
        mean, readers, patterns = (
            part.to(vectors) for part in (self.mean, self.readers, self.patterns)
        )
        return vectors - ((vectors - mean) @ readers) @ patterns.T


def fit_eraser(vectors: Tensor, positions: Tensor, least: float = LEAST) -> PositionEraser:
    """The least change of vectors after which none of them is linear in the position.

    Directions are found, and taken out, where all directions vary alike: in the vectors' own scale
    chance correlations of what varies most would count for more than the position.

    Args:
        vectors: (N, D).
        positions: (N, 2).
        least: Directions that share less than this of their variance with the position stay: they
            are chance, or do not matter.

    Returns:
        The map, fitted on these vectors.

    Raises:
        UserError: Vectors that are not finite.

    Source: Belrose et al., "LEACE: perfect linear concept erasure in closed form" (2023).
    """
    mean, moment, cross = _moments(vectors, positions)
    values, axes = torch.linalg.eigh(moment)
    # Rounding: float32 vectors vary by it along all axes.
    varies = values > 1e-10 * values.max() + 1e-14 * mean.square().max()
    root = torch.where(varies, values.clamp(min=0).sqrt(), 0.0)
    inverse = torch.where(varies, 1 / root, 0.0)
    spread = torch.linalg.eigh(_covariance(positions))
    scale = torch.where(spread[0] > 1e-12, spread[0].clamp(min=1e-12).rsqrt(), 0.0)
    shared = (inverse[:, None] * (axes.T @ cross) @ spread[1]) * scale
    left, correlations, _ = torch.linalg.svd(shared, full_matrices=False)
    kept = correlations.square() >= least
    left = left[:, kept]
    patterns = axes @ (root[:, None] * left)
    total = float(moment.diagonal().sum())
    return PositionEraser(
        mean,
        axes @ (inverse[:, None] * left),
        patterns,
        tuple(correlations[kept].tolist()),
        float(patterns.square().sum()) / total if total else 0.0,
    )


def _covariance(values: Tensor) -> Tensor:
    centered = values.double() - values.double().mean(0)
    return centered.T @ centered / len(centered)


def _moments(vectors: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), covariance (D, D) and that with the positions (D, 2), in float64."""
    if not torch.isfinite(vectors).all():
        raise UserError("position cannot be predicted: embeddings of the split are not finite")
    mean = vectors.mean(0, dtype=torch.float64)
    center = positions.double().mean(0)
    moment = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    cross = torch.zeros(len(mean), 2, dtype=torch.float64)
    for rows, wanted in zip(vectors.split(_ROWS), positions.split(_ROWS), strict=True):
        centered = rows.double() - mean
        moment += centered.T @ centered
        cross += centered.T @ (wanted.double() - center)
    return mean, moment / len(vectors), cross / len(vectors)
