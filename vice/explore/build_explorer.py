"""An explorer of a folder: a page that opens from the disk, on which its concepts are named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vice.errors import UserError
from vice.explore.compressed_vectors import Compression, Loss
from vice.explore.explorer_files import ExplorerFiles, encoded
from vice.explore.explorer_pass import CELLS, ExplorerPass, names_of
from vice.explore.fitted_concepts import fit_vectors
from vice.explore.kept_pass import KeptPass
from vice.explore.named_concepts import COSINE, EUCLIDEAN, NamedConcepts, model_title
from vice.models.concepts import Concepts
from vice.models.load import is_spherical, unfinished
from vice.parts import check_packages
from vice.predictor import Predictor
from vice.runtime.folder_lock import sole_writer
from vice.runtime.provenance import digest_tensors
from vice.visualize.maps import palette

logger = logging.getLogger(__name__)
#: Vectors that the loss by compression is measured on.
_MEASURED = 20_000
#: Colors that the page can give to new concepts.
_COLORS = 96


@dataclass
class Explorer:
    """What was written.

    Attributes:
        page: The page.
        images: How many images are on it.
        concepts: How many concepts it begins with.
        unread: Images that could not be read, and why.
        loss: What compression changes.
        exactness: A sentence of it.
    """

    page: Path
    images: int
    concepts: int
    unread: dict[str, str]
    loss: Loss
    exactness: str


def build_explorer(
    predictor: Predictor,
    images: Sequence[Path],
    out: Path,
    *,
    clusters: int = 24,
    concepts: NamedConcepts | None = None,
    seed: int = 0,
    memory: int | str | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Explorer:
    """Writes an explorer of images: ``index.html``, its scripts, and its data.

    Every image is embedded once. The page compares its vectors along `Compression.directions` in 8
    bits; what that changes is measured, and said on the page. A call that was stopped goes on where
    it was, and comes to the same files.

    Args:
        predictor: The model.
        images: Paths.
        out: A new folder, or one with an explorer.
        clusters: How many concepts are fitted to the folder.
        concepts: What the page begins with instead.
        seed: Of samples and of k-means.
        memory: As of `vice.Predictor.embed`.
        stopped: Whether to stop, asked before each image.

    Raises:
        PassStopped: It was asked to stop.
        MissingPart: Concepts are to be fitted, and FAISS is not installed.
        UserError: The folder holds something else, the disk is too small, no image can be read, or
            the concepts are compared in a way that the page cannot.
    """
    spherical = is_spherical(predictor.embedder)
    if concepts is None:
        check_packages("faiss")
    else:
        _check(concepts.vectors, spherical, predictor)
    # Once before it waits for another, and once when that one is gone.
    ExplorerFiles(out)
    with sole_writer(out):
        files = ExplorerFiles(out)
        if files.is_whole():
            logger.info("%s: the explorer that was there is made anew", out)
        files.begin(len(images))
        kept = KeptPass.of(out, predictor, images, seed, memory=memory)
        names = names_of(images)
        over = ExplorerPass(predictor, images, names, seed, kept, memory, stopped)
        compression = over.fit()
        directions = compression.directions.shape[1]
        size = files.prepare(len(images), CELLS, directions, anew=not kept.names("image"))
        logger.info("the explorer takes %s", size)
        passed = over.run(compression, files)
        if kept.reused:
            logger.info("an earlier call had embedded images of these: it went on there")
        vectors = torch.cat(passed.vectors)
        begun = concepts or _fitted(predictor, vectors, clusters, seed)
        chosen = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))
        sample = vectors[chosen[:_MEASURED]]
        loss = Loss.measure(compression, sample, begun.vectors, spherical=spherical)
        exactness = loss.said(directions, predictor.dim, spherical=spherical)
        page = files.finish(
            {
                "images": passed.images,
                "unread": [f"{name}: {reason}" for name, reason in passed.unread.items()],
                "exactness": exactness,
                **_model(predictor, compression),
                **_begun(begun, seed if concepts is None else None),
            },
            np.concatenate(passed.codes),
        )
        kept.forget()
    return Explorer(
        page, len(passed.images), len(begun.names), passed.unread, loss, exactness
    )  # fmt: skip


def _fitted(predictor: Predictor, vectors: torch.Tensor, clusters: int, seed: int) -> NamedConcepts:
    """Clusters of vectors, the most common one first."""
    fitted = fit_vectors(predictor, vectors, clusters, seed=seed).concepts()
    order = fitted.nearest(vectors).bincount(minlength=clusters).argsort(descending=True)
    bias = None if fitted.bias is None else fitted.bias[order]
    sorted_ = replace(fitted, vectors=fitted.vectors[order], bias=bias)
    return NamedConcepts.single(sorted_, [f"concept {k}" for k in range(1, clusters + 1)])


def _check(concepts: Concepts, spherical: bool, predictor: Predictor) -> None:
    # Distances have a bias that follows from the vectors, directions have none.
    bias = None if spherical else Concepts.euclidean(concepts.vectors).bias
    same = concepts.bias is None if bias is None else torch.equal(concepts.bias, bias)
    if not same:
        raise UserError(
            f"the concepts of {predictor.name} are compared by more than "
            f"{'directions' if spherical else 'distances'}, which the page cannot show; fit some "
            "(--clusters)"
        )


def _model(predictor: Predictor, compression: Compression) -> dict[str, Any]:
    return {
        "model": {
            "name": model_title(predictor.name),
            "weights": predictor.weights,
            "dim": predictor.dim,
            "unfinished": unfinished(predictor.embedder),
        },
        "metric": COSINE if is_spherical(predictor.embedder) else EUCLIDEAN,
        "dim": predictor.dim,
        "directions": encoded(compression.directions.numpy()),
        "steps": compression.steps.tolist(),
        "palette": [_hex(color) for color in palette(_COLORS)],
    }


def _begun(begun: NamedConcepts, seed: int | None) -> dict[str, Any]:
    """Concepts as the page begins with, and which clusters they are of."""
    vectors = begun.vectors.vectors.detach().cpu().float()
    named = [
        {
            "name": name,
            "color": _hex(color),
            "named": seed is None,
            "vectors": vectors[begun.groups == number].tolist(),
        }
        for number, (name, color) in enumerate(zip(begun.names, begun.shown, strict=True))
    ]
    dropped = vectors[begun.groups >= len(begun.names)].tolist()
    if dropped:
        named.append(
            {"name": "dropped", "color": "#808080", "vectors": dropped, "dropped": True}
        )  # fmt: skip
    return {
        "concepts": named,
        "clusters": {
            "digest": digest_tensors({"vectors": vectors}),
            "count": len(vectors),
            "seed": seed,
        },
    }


def _hex(color: np.ndarray) -> str:
    return "#" + "".join(f"{int(value):02x}" for value in color)
