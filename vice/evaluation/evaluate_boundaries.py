"""Outlines of a model's segments against those that people drew, over a folder of images."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vice.clustering import fit_kmeans
from vice.datasets.labelled_set import list_checksum
from vice.errors import UserError
from vice.evaluation.boundaries import (
    SegmentScores,
    connected_segments,
    read_annotations,
    score_segments,
    summarize,
)
from vice.evaluation.pixel_sampler import PixelSampler
from vice.evaluation.results import plain
from vice.images import list_images
from vice.models.centroids import Centroids
from vice.models.load import is_spherical
from vice.predictor import Predictor, load
from vice.runtime.files import write_json
from vice.runtime.progress import progress
from vice.runtime.provenance import digest, versions
from vice.runtime.run_folder import RESULTS_NAME

logger = logging.getLogger(__name__)
#: Pixels that k-means is fitted on, at most.
PIXELS = 200_000


def evaluate_boundaries(
    spec: str,
    folder: str | Path,
    out_dir: str | Path,
    *,
    split: str = "val",
    clusters: int | None = None,
    fit_split: str = "train",
    centroids: str | Path | None = None,
    tolerance: int = 2,
    seed: int = 0,
    device: str | None = None,
) -> dict[str, Any]:
    """Scores the connected parts of a model's label maps as segments, without any class.

    Args:
        spec: As in `vice.predictor.load`.
        folder: ``images/<split>/<id>.jpg`` and ``labels/<split>/<id>_<annotator>.png``, the numbers
            of the segments that each annotator drew; BSDS500 in this layout, for example.
        out_dir: Gets ``results.json``.
        split: The split that is scored.
        clusters: Fits so many clusters on the images of another split instead of taking the
            checkpoint's own concepts.
        fit_split: That split.
        centroids: File of centroids that tools/eval_cluster.py wrote, to take instead.
        tolerance: Greatest distance of outlines in pixels, along both axes.
        seed: Of the sample of pixels and of k-means.
        device: As in `vice.predictor.load`.

    Returns:
        What ``results.json`` holds: under ``"boundaries"`` what
        `vice.evaluation.boundaries.summarize` gives, under ``"per_image"`` the counts and scores of
        each image.

    Raises:
        UserError: No such model, images, annotations or concepts, or an image that cannot be read.
    """
    start, folder, out_dir = time.monotonic(), Path(folder), Path(out_dir)
    if clusters is not None and centroids is not None:
        raise UserError("clusters and centroids are one setting: leave one out")
    images = _images(folder, split)
    predictor = load(spec, device)
    concepts, known = _concepts(predictor, folder, clusters, fit_split, centroids, seed)
    scores = {}
    for path in progress(images, len(images), f"scoring outlines of {split}"):
        annotations = list(read_annotations(folder, split, path.stem).values())
        segments = connected_segments(predictor.segment(path, concepts).numpy())
        try:
            scores[path.stem] = score_segments(segments, annotations, tolerance)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    result = {
        "kind": "boundaries",
        "unit": "share",
        "spec": spec,
        "seed": seed,
        "dataset": {
            "name": folder.resolve().name,
            "root": str(folder),
            "split": split,
            "images": len(images),
            "list_checksum": list_checksum([path.name for path in images]),
        },
        "model": {"digest": digest(predictor.embedder), "dim": predictor.dim},
        "concepts": known,
        "tolerance": tolerance,
        "boundaries": summarize(scores.values()),
        "per_image": {name: _entry(each) for name, each in scores.items()},
        "versions": versions(),
        "seconds": round(time.monotonic() - start, 2),
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    write_json(out_dir / RESULTS_NAME, plain(result), allow_nan=False)
    logger.info("results: %s", out_dir / RESULTS_NAME)
    return plain(result)


def _images(folder: Path, split: str) -> list[Path]:
    home = folder / "images" / split
    if not home.is_dir():
        splits = sorted(path.name for path in home.parent.glob("*") if path.is_dir())
        found = f"; its splits are {', '.join(splits)}" if splits else ""
        raise UserError(f"{folder}: no folder images/{split}{found}")
    return list_images(home)


def _concepts(
    predictor: Predictor,
    folder: Path,
    clusters: int | None,
    fit_split: str,
    centroids: str | Path | None,
    seed: int,
) -> tuple[Centroids | None, dict[str, Any]]:
    """What pixels are compared with, None for the checkpoint's own, and what is said of it."""
    if centroids is not None:
        read = Centroids.load(centroids)
        return read, {"from": "file", "file": str(centroids), "number": len(read)}
    if clusters is None:
        # Segmenting an image would say so, too, but of the first image.
        own = predictor.checkpoint.concepts
        if own is None:
            raise UserError(
                f"{predictor.name} holds no prototypes: name clusters to fit (--clusters), or a "
                "file of centroids (--centroids)"
            )
        return None, {"from": "checkpoint", "number": len(own)}
    images = _images(folder, fit_split)
    fitted = _fit(predictor, images, clusters, seed)
    return fitted, {
        "from": "k-means",
        "number": clusters,
        "fit_split": fit_split,
        "images": len(images),
        "pixels": fitted.vectors_fitted,
        "list_checksum": list_checksum([path.name for path in images]),
    }


def _fit(predictor: Predictor, images: Sequence[Path], clusters: int, seed: int) -> Centroids:
    sampler = PixelSampler(PIXELS, seed)
    for index, path in enumerate(progress(images, len(images), "sampling pixels")):
        embedding = predictor.embed(path)
        sampler.add(embedding, (embedding.shape[1], embedding.shape[2]), index)
    spherical = is_spherical(predictor.embedder)
    return fit_kmeans(sampler.vectors(), clusters, spherical=spherical, seed=seed)


def _entry(scores: SegmentScores) -> dict[str, Any]:
    entry = asdict(scores)
    return {**entry.pop("counts"), "f_score": scores.counts.f_score, **entry}
