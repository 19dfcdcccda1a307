"""Concepts of a folder: k-means on a bounded sample of its pixels' vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from vice.clustering import fit_kmeans
from vice.errors import UserError
from vice.explore.kept_pass import KeptPass, PassStopped, source_of
from vice.models.centroids import Centroids
from vice.models.load import is_spherical
from vice.parts import check_packages
from vice.predictor import Predictor
from vice.runtime.progress import progress

#: Vectors that k-means sees, and images that they are drawn from, at most.
VECTORS, IMAGES = 200_000, 2_000


def fit_concepts(
    predictor: Predictor,
    images: Sequence[Path],
    clusters: int,
    *,
    seed: int = 0,
    memory: int | str | None = None,
    kept: KeptPass | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Centroids:
    """Fits clusters to the vectors of a folder's images, as many of each.

    Args:
        predictor: Embeds them, at the network's own stride.
        images: Paths; of more than `IMAGES` a uniform sample is used. Those that cannot be read
            are left out: whoever segments them says so.
        clusters: How many.
        seed: Of the samples and of k-means.
        memory: As of `vice.Predictor.embed`.
        kept: Where what was drawn is kept for a call that goes on; None: nowhere.
        stopped: Whether to stop, asked before each image.

    Returns:
        The centroids.

    Raises:
        MissingPart: FAISS is not installed; said before an image is embedded.
        UserError: Fewer vectors than clusters, or no image can be read.
        PassStopped: It was asked to stop.
    """
    check_packages("faiss")
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.permutation(len(images))[:IMAGES])
    each = -(-VECTORS // len(chosen))
    drawn, reason = [], ""
    label = f"embedding images for {clusters} concepts"
    for done, number in enumerate(progress(chosen, len(chosen), label)):
        if stopped():
            raise PassStopped(done)
        source = "" if kept is None else source_of(images[number])
        known = None if kept is None else kept.load("sample", number, source)
        if known is not None:
            # Drawn all the same: what is drawn of later images follows from it.
            rng.permutation(int(known["count"]))
            drawn.append(torch.from_numpy(known["vectors"]))
            continue
        try:
            dense = predictor.embed(images[number], stride="native", memory=memory)
        except UserError as error:
            reason = reason or str(error)
            continue
        vectors = dense.flatten(1).T
        drawn.append(vectors[torch.from_numpy(rng.permutation(len(vectors))[:each].copy())])
        if kept is not None:
            count = np.array(len(vectors))
            kept.save("sample", number, source, vectors=drawn[-1].numpy(), count=count)
    if not drawn:
        raise UserError(f"none of {len(chosen)} images can be read and embedded: {reason}")
    return fit_vectors(predictor, torch.cat(drawn), clusters, seed=seed)


def fit_vectors(
    predictor: Predictor, points: torch.Tensor, clusters: int, *, seed: int = 0
) -> Centroids:
    """Fits clusters to vectors of a model, by its own similarity.

    Args:
        predictor: The model.
        points: (N, D).
        clusters: How many.
        seed: Of k-means.

    Raises:
        UserError: Fewer vectors than clusters.
    """
    spherical = is_spherical(predictor.embedder)
    return fit_kmeans(
        F.normalize(points, dim=1) if spherical else points,
        clusters,
        spherical=spherical,
        seed=seed,
    ).of_model(predictor.weights)
