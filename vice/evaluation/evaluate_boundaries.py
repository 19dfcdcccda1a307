"""Outlines of a model's segments against those that people drew, over a folder of images."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

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
from vice.evaluation.content_checksums import checksums
from vice.evaluation.image_counts import save_image_tables
from vice.evaluation.image_sums import sum_intervals
from vice.evaluation.out_of_data import keep_out_of_data
from vice.evaluation.outline_sums import OUTLINES, outline_scores, outline_sums
from vice.evaluation.outlined_images import annotation_files, require_annotations, require_images
from vice.evaluation.pixel_sampler import PixelSampler
from vice.evaluation.replaced import tell_replaced
from vice.evaluation.results import plain
from vice.images.survey import survey_images
from vice.models.centroids import Centroids
from vice.models.load import is_spherical
from vice.parts import check_packages
from vice.predictor import Predictor, load
from vice.runtime.files import write_json
from vice.runtime.folder_lock import sole_writer
from vice.runtime.own_folder import keep_others_from_results
from vice.runtime.progress import progress
from vice.runtime.provenance import versions
from vice.runtime.run_folder import PER_IMAGE_NAME, RESULTS_NAME

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
        out_dir: Gets ``results.json`` and ``per_image.npz``.
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
        `vice.evaluation.boundaries.summarize` gives, with its ``interval`` (see
        `vice.evaluation.image_sums.sum_intervals`), under ``"per_image"`` the counts and scores of
        each image.

    Raises:
        MissingPart: SciPy, or FAISS for clusters, is not installed.
        UserError: No such model, images, annotations or concepts, an image that cannot be read, or
            a folder that holds something else than results of one evaluation.
    """
    folder = Path(folder)
    if clusters is not None and centroids is not None:
        raise UserError("clusters and centroids are one setting: leave one out")
    keep_others_from_results(Path(out_dir))
    require_annotations(folder, split)
    check_packages("scipy", *["faiss"] * (clusters is not None))
    predictor = load(spec, device)
    readout = BoundaryReadout(
        out_dir, *_concepts(predictor, folder, clusters, fit_split, centroids, seed)
    )
    return score_boundaries(
        [readout], predictor, folder, spec=spec, split=split, tolerance=tolerance, seed=seed
    )[0]


class BoundaryReadout:
    """Outlines of the segments that some concepts make.

    Args:
        out_dir: Gets ``results.json`` and ``per_image.npz``.
        concepts: What pixels are compared with; None for the checkpoint's own.
        known: What the result says of them.

    Attributes:
        scores: Stem of an image to its scores.
    """

    def __init__(
        self, out_dir: str | Path, concepts: Centroids | None, known: dict[str, Any]
    ) -> None:
        self.out_dir, self.concepts, self.known = Path(out_dir), concepts, known
        self.scores: dict[str, SegmentScores] = {}

    @classmethod
    def of_file(cls, out_dir: str | Path, path: str | Path) -> BoundaryReadout:
        """Of centroids that an evaluation of clusters has written.

        Raises:
            UserError: As of `Centroids.load`.
        """
        read = Centroids.load(path)
        known = {"from": "file", "file": str(path), "number": len(read)}
        return cls(out_dir, read, known)

    @classmethod
    def of_checkpoint(cls, out_dir: str | Path, predictor: Predictor) -> BoundaryReadout:
        """Of the concepts that the checkpoint holds.

        Raises:
            UserError: It holds none.
        """
        # Segmenting an image would say so, too, but of the first image.
        own = predictor.checkpoint.concepts
        if own is None:
            raise UserError(
                f"{predictor.name} holds no prototypes: name clusters to fit (--clusters), or a "
                "file of centroids (--centroids of vice eval-boundaries)"
            )
        return cls(out_dir, None, {"from": "checkpoint", "number": len(own)})

    def count(
        self, path: Path, labels: np.ndarray, annotations: list[np.ndarray], tolerance: int
    ) -> None:
        """Scores the label map of an image.

        Raises:
            UserError: Annotations of another size; it names the image.
        """
        try:
            segments = connected_segments(labels)
            self.scores[path.stem] = score_segments(segments, annotations, tolerance)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    def write(self, said: dict[str, Any]) -> dict[str, Any]:
        """Writes the result and the sums of each image, in the order of the images.

        Args:
            said: What the result says of model and data.
        """
        sums = outline_sums(self.scores.values())
        found = {**summarize(self.scores.values()), "interval": sum_intervals(sums, outline_scores)}
        result = plain(
            {
                **said,
                "concepts": self.known,
                "boundaries": found,
                "per_image": {name: _entry(each) for name, each in self.scores.items()},
            }
        )
        self.out_dir.mkdir(parents=True, exist_ok=True)
        with sole_writer(self.out_dir):
            tell_replaced(self.out_dir, result)
            save_image_tables(self.out_dir / PER_IMAGE_NAME, {}, {OUTLINES: sums})
            write_json(self.out_dir / RESULTS_NAME, result, allow_nan=False)
        logger.info("results: %s", self.out_dir / RESULTS_NAME)
        return result


def score_boundaries(
    readouts: Sequence[BoundaryReadout],
    predictor: Predictor,
    folder: str | Path,
    *,
    spec: str,
    split: str = "val",
    tolerance: int = 2,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Scores the outlines of several sets of concepts; each image is embedded once.

    Args:
        readouts: The sets.
        predictor: The model.
        folder: As in `evaluate_boundaries`, after `require_annotations`.
        spec: What the result calls the model.
        split: As in `evaluate_boundaries`.
        tolerance: As in `evaluate_boundaries`.
        seed: What the concepts were fitted with.

    Returns:
        What each ``results.json`` holds.

    Raises:
        UserError: As of `evaluate_boundaries`.
    """
    start, folder = time.monotonic(), Path(folder)
    images = require_images(folder, split)
    drawn = annotation_files(folder, split)
    annotated = [file for path in images for file in drawn[path.stem]]
    for readout in readouts:
        keep_out_of_data(readout.out_dir, folder, [*images, *annotated])
    found = survey_images(images, f"looking at images of {split}", reading=predictor.reading)
    logger.info("%s: %s", split, found)
    concepts = [readout.concepts for readout in readouts]
    for path in progress(images, len(images), f"scoring outlines of {split}"):
        annotations = list(read_annotations(folder, split, path.stem).values())
        for readout, labels in zip(readouts, predictor.segment_each(path, concepts), strict=True):
            readout.count(path, labels.numpy(), annotations, tolerance)
    said = {
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
        "model": {"digest": predictor.weights, "dim": predictor.dim},
        "tolerance": tolerance,
        "content": {"score": {**found.describe(), **checksums(found, annotated)}},
        "versions": versions(),
        "seconds": round(time.monotonic() - start, 2),
    }
    return [readout.write(said) for readout in readouts]


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
        read = BoundaryReadout.of_file("", centroids)
        return read.concepts, read.known
    if clusters is None:
        own = BoundaryReadout.of_checkpoint("", predictor)
        return own.concepts, own.known
    images = require_images(folder, fit_split)
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
    fitted = fit_kmeans(sampler.vectors(), clusters, spherical=spherical, seed=seed)
    return fitted.of_model(predictor.weights)


def _entry(scores: SegmentScores) -> dict[str, Any]:
    entry = asdict(scores)
    return {**entry.pop("counts"), "f_score": scores.counts.f_score, **entry}
