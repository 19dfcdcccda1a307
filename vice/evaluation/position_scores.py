"""Scores of a sample of pixels with and without what is linear in their position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from vice.clustering import fit_kmeans
from vice.evaluation.logistic import fit_logistic
from vice.evaluation.position_counts import LINEAR, R2, PositionCounts
from vice.evaluation.positional_bias import LEAST, RIDGE, fit_eraser, fit_position
from vice.evaluation.results import scores
from vice.scoring import CountTable


class PixelSample(NamedTuple):
    """Pixels of a split.

    Attributes:
        vectors: float32 (N, D).
        positions: (N, 2), x and y, see `vice.evaluation.pixel_sampler.normalized_positions`.
        labels: int64 (N,), class of each.
        images: int64 (N,), number of the image of each in its split; None: not known.
    """

    vectors: Tensor
    positions: Tensor
    labels: Tensor
    images: Tensor | None = None


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


def measure_bias(
    fit: PixelSample, score: PixelSample, asked: ReadOuts, counts: PositionCounts | None = None
) -> dict[str, Any]:
    """The probe's R² and the scores, with and without what is linear in the position.

    The probe and eraser of position, the linear probe, centroids and the greedy mapping are fitted
    on one sample and scored on the other, anew on what remains; the Hungarian matching is taken on
    the scored sample.

    Args:
        fit: Sample of the fitted split.
        score: Sample of the scored split.
        asked: Which scores.
        counts: Gets what each scored image adds, for intervals; None: there are none.

    Returns:
        ``before`` and ``after``: ``r2`` (see `PositionProbe.r2`), ``r2_interval``, ``linear`` and
        ``clusters[str(K)]["greedy" | "hungarian"]``, each as `vice.evaluation.results.scores`.
        ``removed``: how many ``directions``, and the ``variance_share`` of the fitted sample along
        them. ``pixels`` of both samples, and ``ridge``.

    Raises:
        UserError: Vectors that are not finite, or fewer than clusters.
    """
    eraser = fit_eraser(fit.vectors, fit.positions)
    rest = [sample._replace(vectors=eraser.erase(sample.vectors)) for sample in (fit, score)]
    return {
        "before": _read_out("before", fit, score, asked, counts),
        "after": _read_out("after", rest[0], rest[1], asked, counts),
        "removed": {
            "directions": len(eraser.correlations),
            "correlations": list(eraser.correlations),
            "variance_share": eraser.variance_share,
        },
        "pixels": {"fit": len(fit.vectors), "score": len(score.vectors)},
        "ridge": RIDGE,
        "least": LEAST,
    }


def _read_out(
    when: str,
    fit: PixelSample,
    score: PixelSample,
    asked: ReadOuts,
    counts: PositionCounts | None,
) -> dict[str, Any]:
    probe = fit_position(fit.vectors, fit.positions)
    spread = None
    if counts is not None:
        errors = probe.errors(score.vectors, score.positions)
        spread = counts.add_positions(f"{when} {R2}", errors, score.positions)
    linear = fit_logistic(
        fit.vectors,
        fit.labels,
        len(asked.classes),
        l2=asked.l2,
        iterations=asked.iterations,
        device=asked.device,
    )
    table = CountTable(len(asked.classes), len(asked.classes))
    predicted = (score.vectors @ linear.weight.T + linear.bias).argmax(1)
    table.update(predicted, score.labels)
    mappings = {LINEAR: table.identity()}
    found = _scored(f"{when} {LINEAR}", table, predicted, mappings, score, asked, counts)
    return {
        "r2": probe.r2(score.vectors, score.positions),
        "r2_interval": spread,
        "linear": {**found[LINEAR], "converged": linear.converged},
        "clusters": {str(k): _clusters(when, k, fit, score, asked, counts) for k in asked.clusters},
    }


def _clusters(
    when: str,
    k: int,
    fit: PixelSample,
    score: PixelSample,
    asked: ReadOuts,
    counts: PositionCounts | None,
) -> dict[str, Any]:
    centroids = fit_kmeans(
        fit.vectors,
        k,
        spherical=asked.spherical,
        seed=asked.seed,
        iterations=asked.kmeans_iterations,
    )
    concepts = centroids.concepts()
    tables, nearest = [], []
    for sample in (fit, score):
        nearest.append(concepts.nearest(sample.vectors))
        table = CountTable(k, len(asked.classes))
        table.update(nearest[-1], sample.labels)
        tables.append(table)
    mappings = {"greedy": tables[0].greedy(), "hungarian": tables[1].hungarian()}
    found = _scored(f"{when} {k}", tables[1], nearest[1], mappings, score, asked, counts)
    return {name: {**of, "mapping": mappings[name].tolist()} for name, of in found.items()}


def _scored(
    name: str,
    table: CountTable,
    predicted: Tensor,
    mappings: dict[str, Tensor],
    score: PixelSample,
    asked: ReadOuts,
    counts: PositionCounts | None,
) -> dict[str, Any]:
    """Scores under each mapping, with their intervals."""
    spread: dict[str, Any] = {}
    if counts is not None:
        spread = counts.add_classes(name, predicted, score.labels, mappings, table.num_clusters)
    return {
        matching: scores(table, mapping, asked.classes, spread.get(matching), over=asked.over)
        for matching, mapping in mappings.items()
    }
