"""How much of where a pixel lies its embedding says, and what is left of the scores without it.

A network with padding can tell pixels by their place alone, and a data set whose classes keep to
places rewards it. Position is predicted from frozen vectors by least squares, fitted on one split
and scored on another. Then the directions that predict it are projected out along what vectors hold
of them, so that no linear map says more of the position than a constant, and vectors change as
little as can be (`fit_eraser`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vice.clustering import fit_kmeans
from vice.errors import UserError
from vice.evaluation.logistic import fit_logistic
from vice.evaluation.results import scores
from vice.scoring import CountTable

AXES = ("x", "y")
#: Weight of the penalty on standardized features: least squares, but for copies of one another.
RIDGE = 1e-6
#: Share of a direction's variance that it must have in common with the position to be taken out.
LEAST = 0.01
_ROWS = 2**16


class PixelSample(NamedTuple):
    """Pixels of a split.

    Attributes:
        vectors: float32 (N, D).
        positions: (N, 2), x and y, see `vice.evaluation.pixel_sampler.normalized_positions`.
        labels: int64 (N,), class of each.
    """

    vectors: Tensor
    positions: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ReadOuts:
    """Which scores are taken before and after.

    Attributes:
        classes: Class names.
        clusters: Numbers of clusters K.
        spherical: Whether the embedder's vectors are compared by direction.
        l2: Weight of the linear probe's penalty, as in `vice.evaluation.logistic.fit_logistic`.
        iterations: Its most iterations.
        kmeans_iterations: Most iterations of k-means.
        over: As in `vice.evaluation.results.scores`.
        seed: Of k-means.
        device: Where the probe is fitted.
    """

    classes: tuple[str, ...]
    clusters: Sequence[int] = ()
    spherical: bool = True
    l2: float = 1e-4
    iterations: int = 12_000
    kmeans_iterations: int = 20
    over: str = "present"
    seed: int = 0
    device: str = "cpu"


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
        for rows, wanted in zip(vectors.split(_ROWS), positions.split(_ROWS), strict=True):
            error += (rows.double() @ self.weight + self.bias - wanted).square().sum(0)
        centered = positions.double() - positions.double().mean(0)
        total = centered.square().sum(0)
        return {
            axis: float(1 - e / t) if t > 0 else None
            for axis, e, t in zip(AXES, error, total, strict=True)
        }


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


def measure_bias(fit: PixelSample, score: PixelSample, asked: ReadOuts) -> dict[str, Any]:
    """The probe's R² and the scores, with and without what is linear in the position.

    The probe and eraser of position, the linear probe, centroids and the greedy mapping are fitted
    on one sample and scored on the other, anew on what remains; the Hungarian matching is taken on
    the scored sample.

    Args:
        fit: Sample of the fitted split.
        score: Sample of the scored split.
        asked: Which scores.

    Returns:
        ``before`` and ``after``: ``r2`` (see `PositionProbe.r2`), ``linear`` and
        ``clusters[str(K)]["greedy" | "hungarian"]``, each as `vice.evaluation.results.scores`.
        ``removed``: how many ``directions``, and the ``variance_share`` of the fitted sample along
        them. ``pixels`` of both samples, and ``ridge``.

    Raises:
        UserError: Vectors that are not finite, or fewer than clusters.
    """
    eraser = fit_eraser(fit.vectors, fit.positions)
    rest = [sample._replace(vectors=eraser.erase(sample.vectors)) for sample in (fit, score)]
    return {
        "before": _read_out(fit, score, asked),
        "after": _read_out(rest[0], rest[1], asked),
        "removed": {
            "directions": len(eraser.correlations),
            "correlations": list(eraser.correlations),
            "variance_share": eraser.variance_share,
        },
        "pixels": {"fit": len(fit.vectors), "score": len(score.vectors)},
        "ridge": RIDGE,
        "least": LEAST,
    }


def _read_out(fit: PixelSample, score: PixelSample, asked: ReadOuts) -> dict[str, Any]:
    probe = fit_position(fit.vectors, fit.positions)
    linear = fit_logistic(
        fit.vectors,
        fit.labels,
        len(asked.classes),
        l2=asked.l2,
        iterations=asked.iterations,
        device=asked.device,
    )
    table = CountTable(len(asked.classes), len(asked.classes))
    table.update((score.vectors @ linear.weight.T + linear.bias).argmax(1), score.labels)
    return {
        "r2": probe.r2(score.vectors, score.positions),
        "linear": {
            **scores(table, table.identity(), asked.classes, over=asked.over),
            "converged": linear.converged,
        },
        "clusters": {str(k): _clusters(k, fit, score, asked) for k in asked.clusters},
    }


def _clusters(k: int, fit: PixelSample, score: PixelSample, asked: ReadOuts) -> dict[str, Any]:
    centroids = fit_kmeans(
        fit.vectors,
        k,
        spherical=asked.spherical,
        seed=asked.seed,
        iterations=asked.kmeans_iterations,
    )
    concepts = centroids.concepts()
    tables = []
    for sample in (fit, score):
        table = CountTable(k, len(asked.classes))
        table.update(concepts.nearest(sample.vectors), sample.labels)
        tables.append(table)
    mappings = {"greedy": tables[0].greedy(), "hungarian": tables[1].hungarian()}
    return {
        name: scores(tables[1], mapping, asked.classes, over=asked.over)
        for name, mapping in mappings.items()
    }


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
