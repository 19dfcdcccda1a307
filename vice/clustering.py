"""K-means on embeddings with FAISS, and the nearest centroid as one 1x1 convolution."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from vice.errors import UserError
from vice.models.centroids import Centroids
from vice.parts import package
from vice.runtime.amounts import in_words

__all__ = ["DEFAULT_MEMORY", "Centroids", "fit_kmeans", "fit_several"]

DEFAULT_MEMORY = 2 * 1024**3
# FAISS keeps the label (int64) and the distance (float32) of each vector beside the vectors.
BYTES_PER_ASSIGNMENT = 12
_TOO_LONG = (
    "k-means cannot measure distances between these vectors: their numbers are too large to be "
    "squared in float32; scale the embedding down"
)
# Vectors that are compared at once.
_PIECE = 4096
logger = logging.getLogger(__name__)


def fit_kmeans(
    vectors: Tensor | np.ndarray,
    k: int,
    *,
    spherical: bool = True,
    seed: int = 0,
    memory_limit: int = DEFAULT_MEMORY,
    iterations: int = 20,
    gpu: bool = False,
) -> Centroids:
    """Fits k-means with FAISS.

    Of more vectors than fit the memory limit a uniform sample without replacement is used; FAISS
    itself never leaves vectors out. What will be used is logged before it starts.

    Args:
        vectors: (N, D) floating point; spherical: each is L2-normalised first.
        k: Number of clusters.
        spherical: Clusters by direction (unit centroids, inner product), else by Euclidean
            distance.
        seed: Fixes the sample and the first centroids.
        memory_limit: Most bytes for the vectors that are worked on and FAISS's record of them
            (the array passed in is not counted).
        iterations: Most Lloyd iterations; FAISS stops when the objective stands still.
        gpu: Whether FAISS computes on the GPUs; needs a FAISS built for them.

    Returns:
        The centroids.

    Raises:
        MissingPart: FAISS is not installed.
        UserError: Wrong shape, vectors that are not finite or too long for float32, fewer vectors
            than clusters, a memory limit that has no room for k vectors, or no GPU for FAISS.

    Example:
        >>> import numpy as np
        >>> from vice.clustering import fit_kmeans
        >>> vectors = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
        >>> centroids = fit_kmeans(vectors, 2)
        >>> sorted(centroids.vectors.tolist()), centroids.distinct
        ([[0.0, 1.0], [1.0, 0.0]], 2)
    """
    found = fit_several(
        vectors,
        (k,),
        spherical=spherical,
        seed=seed,
        memory_limit=memory_limit,
        iterations=iterations,
        gpu=gpu,
    )
    return next(found)


def fit_several(
    vectors: Tensor | np.ndarray,
    clusters: Sequence[int],
    *,
    spherical: bool = True,
    seed: int = 0,
    memory_limit: int = DEFAULT_MEMORY,
    iterations: int = 20,
    gpu: bool = False,
) -> Iterator[Centroids]:
    """`fit_kmeans` for several numbers of clusters of the same vectors, one after another.

    The sample is drawn, scaled and looked at once for all.

    Args:
        vectors: As in `fit_kmeans`.
        clusters: Numbers of clusters.
        spherical: As there.
        seed: As there.
        memory_limit: As there.
        iterations: As there.
        gpu: As there.

    Yields:
        Their centroids.

    Raises:
        UserError: As there, when the centroids are asked for.
    """
    points, sample, distinct, warned = _as_points(vectors), None, None, False
    for k in clusters:
        _check_number(points, k)
        if sample is None:
            _check_finite(points)
        used = _number_used(points, k, memory_limit)
        if sample is None:
            if used < len(points):
                _tell_beyond(points, used, memory_limit)
            sample = _scaled(_sample(points, used, seed), points, spherical)
        fitted = _run_faiss(sample, k, spherical, seed, iterations, gpu)
        distinct = distinct or count_distinct(sample)
        if not warned:
            warned = warn_few_distinct(distinct, fitted.vectors_fitted or 0, k)
        beyond = len(points) - used
        yield _told(dataclasses.replace(fitted, distinct=distinct, beyond_memory=beyond))


def _as_points(vectors: Tensor | np.ndarray) -> Tensor:
    points = torch.as_tensor(vectors).detach().cpu()
    if points.ndim != 2 or not points.is_floating_point():
        raise UserError(
            f"k-means needs floating-point vectors of shape (N, D), not {points.dtype} of shape "
            f"{tuple(points.shape)}"
        )
    return points.float().contiguous()


def _check_number(points: Tensor, k: int) -> None:
    if k < 1:
        raise UserError(f"the number of clusters must be at least 1, not {k}")
    if len(points) < k:
        raise UserError(
            f"{len(points)} vectors cannot make {k} clusters: ask for fewer clusters or give more "
            "images"
        )


def _check_finite(points: Tensor) -> None:
    finite = torch.isfinite(points.amax(1)) & torch.isfinite(points.amin(1))
    broken = int((~finite).sum())
    if broken:
        raise UserError(
            f"{broken} of {len(points)} vectors are not finite (NaN or infinity): the model that "
            "made them has diverged or its checkpoint is broken"
        )


def _number_used(points: Tensor, k: int, memory_limit: int) -> int:
    count, dim = points.shape
    each = dim * points.element_size() + BYTES_PER_ASSIGNMENT
    most = memory_limit // each
    if most < k:
        raise UserError(
            f"memory_limit {memory_limit} bytes has room for {most} vectors of {each} bytes, fewer "
            f"than {k} clusters: give at least {k * each}"
        )
    used = min(count, most)
    logger.info(
        "k-means: %d clusters on %d of %d vectors of %d dimensions: %.1f of at most %.1f MiB",
        k, used, count, dim, used * each / 2**20, memory_limit / 2**20,
    )  # fmt: skip
    return used


def _tell_beyond(points: Tensor, used: int, memory_limit: int) -> None:
    logger.warning(
        "k-means: %d of %d vectors have no part in it, since the memory limit is %s: raise it "
        "(memory_limit, or --memory-gib of vice eval-cluster) for all that were asked for",
        len(points) - used, len(points), in_words(memory_limit),
    )  # fmt: skip


def _sample(points: Tensor, used: int, seed: int) -> Tensor:
    if used == len(points):
        return points
    chosen = np.random.default_rng(seed).permutation(len(points))[:used].copy()
    return points[torch.from_numpy(chosen)]


def _scaled(sample: Tensor, points: Tensor, spherical: bool) -> Tensor:
    if not spherical:
        return sample
    lengths = sample.norm(dim=1, keepdim=True).clamp_(min=1e-12)
    if not torch.isfinite(lengths).all():
        raise UserError(_TOO_LONG)
    # Never in place on the caller's array, never a second copy of a sample.
    return sample / lengths if sample is points else sample.div_(lengths)


def _run_faiss(
    points: Tensor, k: int, spherical: bool, seed: int, iterations: int, gpu: bool
) -> Centroids:
    faiss = package("faiss")
    if gpu and not (hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus()):
        raise UserError(
            "k-means on the GPU needs a GPU and a FAISS built for it: pip install faiss-gpu "
            "(instead of faiss-cpu), or let it run on the CPU"
        )
    kmeans = faiss.Kmeans(
        points.shape[1],
        k,
        niter=iterations,
        spherical=spherical,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=-(-len(points) // k),
        gpu=gpu,
    )
    kmeans.train(points.numpy())
    vectors = torch.from_numpy(np.array(kmeans.centroids, dtype=np.float32).reshape(k, -1))
    if not (torch.isfinite(vectors).all() and np.isfinite(kmeans.obj).all()):
        raise UserError(_TOO_LONG)
    occupied = len(np.unique(kmeans.assign(points.numpy())[1]))
    return Centroids(
        vectors=vectors,
        spherical=spherical,
        objective=[float(value) for value in kmeans.obj],
        seed=seed,
        vectors_fitted=len(points),
        occupied=occupied,
    )


def _told(fitted: Centroids) -> Centroids:
    assert fitted.occupied is not None and fitted.distinct is not None
    # Few distinct vectors are warned of by themselves, once for all numbers of clusters.
    expected = fitted.occupied >= min(len(fitted), fitted.distinct)
    tell = logger.info if expected else logger.warning
    tell(
        "k-means: %d of %d vectors are distinct; %d of %d clusters are not empty",
        fitted.distinct, fitted.vectors_fitted, fitted.occupied, len(fitted),
    )  # fmt: skip
    return fitted


def warn_few_distinct(distinct: int, vectors: int, k: int) -> bool:
    """Warns where there are fewer distinct vectors than clusters; whether it has."""
    if distinct >= k:
        return False
    logger.warning(
        "k-means: only %d of %d vectors are distinct, fewer than %d clusters: the embedding is %s "
        "everywhere, and scores of the clusters say little else",
        distinct, vectors, k, "the same" if distinct == 1 else "of few values",
    )  # fmt: skip
    return True


def count_distinct(points: Tensor) -> int:
    """How many vectors differ, after rounding to a thousandth of the greatest entry.

    Args:
        points: (N, D) floating point, finite.

    Returns:
        A number from 1 to N. Vectors are told apart by a 64-bit hash, in pieces, so that memory
        does not grow with D.
    """
    step = max(float(points.max()), -float(points.min())) / 1000 or 1.0
    # A sum with odd factors, modulo 2^64.
    factors = np.random.default_rng(0).integers(0, 2**63, points.shape[1], dtype=np.uint64)
    factors = 2 * factors + 1
    hashes = [
        (np.rint(piece.numpy() / step).astype(np.int64).view(np.uint64) * factors).sum(1)
        for piece in points.split(_PIECE)
    ]
    return len(np.unique(np.concatenate(hashes)))
