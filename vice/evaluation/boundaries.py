"""How well segments respect the outlines that several people drew.

Boundary recall, achievable segmentation accuracy and undersegmentation: Neubert and Protzel,
"Superpixel benchmark and comparison" (2012), and Liu et al., "Entropy rate superpixel segmentation"
(2011). Precision, recall and F over several annotators: Martin, Fowlkes and Malik (2004), as
Arbelaez et al. (2011) take them for BSDS500, but for one thing: they match pixels of both outlines
one to one, here a pixel is right if any of the other outline is near. Thick or double outlines cost
less so, and the figures are not those of BSDS500's own benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

from vice.errors import UserError, brief
from vice.images.picture_formats import open_picture
from vice.parts import package


def overlaps(regions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Pixels that each superpixel shares with each true segment: int64 (superpixels, segments)."""
    _, first = np.unique(regions, return_inverse=True)
    _, second = np.unique(truth, return_inverse=True)
    segments = int(second.max()) + 1
    cells = np.bincount(first.ravel() * segments + second.ravel())
    table = np.zeros((int(first.max()) + 1) * segments, np.int64)
    table[: len(cells)] = cells
    return table.reshape(-1, segments)


def achievable_accuracy(regions: np.ndarray, truth: np.ndarray) -> float:
    """Share of pixels that are right when each superpixel takes its most frequent segment."""
    return float(overlaps(regions, truth).max(1).sum() / truth.size)


def undersegmentation_error(regions: np.ndarray, truth: np.ndarray) -> float:
    """Pixels that superpixels spill over segments: the smaller side of each cut, over all."""
    table = overlaps(regions, truth)
    inside = np.minimum(table, table.sum(1, keepdims=True) - table)
    return float(inside.sum() / truth.size)


def boundary_recall(regions: np.ndarray, truth: np.ndarray, tolerance: int = 2) -> float:
    """Share of the true outline's pixels that have an outline of superpixels near them.

    Args:
        regions: Integer (H, W).
        truth: Integer (H, W).
        tolerance: Greatest distance in pixels, along both axes.

    Returns:
        In [0, 1]; 1 where there is no true outline.
    """
    wanted = boundaries(truth)
    if not wanted.any():
        return 1.0
    return float(_near(boundaries(regions), tolerance)[wanted].mean())


def boundaries(labels: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour has another label: bool (H, W)."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def connected_segments(labels: np.ndarray) -> np.ndarray:
    """Numbers the connected parts of a label map: a cluster is no segment, each of its parts is.

    Args:
        labels: Integer (H, W).

    Returns:
        int64 (H, W), contiguous from 0; pixels are connected to the four beside them.
    """
    sparse, csgraph = package("scipy.sparse"), package("scipy.sparse.csgraph")
    index = np.arange(labels.size).reshape(labels.shape)
    right, below = labels[:, :-1] == labels[:, 1:], labels[:-1] == labels[1:]
    first = np.concatenate([index[:, :-1][right], index[:-1][below]])
    second = np.concatenate([index[:, 1:][right], index[1:][below]])
    graph = sparse.coo_array((np.ones(len(first), bool), (first, second)), shape=(labels.size,) * 2)
    numbers = csgraph.connected_components(graph, directed=False)[1]
    return np.asarray(numbers, np.int64).reshape(labels.shape)


@dataclass(frozen=True)
class BoundaryCounts:
    """Pixels of outlines, and how many of them the other side has near them.

    Counts of images add up; a share of nothing is None.

    Attributes:
        found: Pixels of the segments' outline.
        right: Of these, those near the outline of any annotator.
        wanted: Pixels of all annotators' outlines.
        hit: Of these, those near the segments' outline.
    """

    found: int = 0
    right: int = 0
    wanted: int = 0
    hit: int = 0

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        return BoundaryCounts(
            *(getattr(self, f.name) + getattr(other, f.name) for f in fields(BoundaryCounts))
        )

    @property
    def precision(self) -> float | None:
        """Share of the segments' outline that somebody drew."""
        return self.right / self.found if self.found else None

    @property
    def recall(self) -> float | None:
        """Share of what people drew that the segments have."""
        return self.hit / self.wanted if self.wanted else None

    @property
    def f_score(self) -> float | None:
        """Harmonic mean of both, 0 where nothing is right; None where either has no outline."""
        precision, recall = self.precision, self.recall
        if precision is None or recall is None:
            return None
        total = precision + recall
        return 2 * precision * recall / total if total else 0.0


def count_boundaries(
    segments: np.ndarray, annotations: Sequence[np.ndarray], tolerance: int = 2
) -> BoundaryCounts:
    """Compares the outline of segments with those of several annotators.

    Args:
        segments: Integer (H, W).
        annotations: One or more integer (H, W).
        tolerance: Greatest distance in pixels, along both axes.

    Raises:
        UserError: None, or one of another size.
    """
    _check(segments, annotations)
    outline = boundaries(segments)
    drawn = [boundaries(annotation) for annotation in annotations]
    close = _near(outline, tolerance)
    return BoundaryCounts(
        int(outline.sum()),
        int((outline & _near(np.any(drawn, axis=0), tolerance)).sum()),
        sum(int(each.sum()) for each in drawn),
        sum(int((each & close).sum()) for each in drawn),
    )


@dataclass(frozen=True)
class SegmentScores:
    """Scores of one image.

    Attributes:
        counts: Of outlines.
        achievable_accuracy: Mean over annotators, see `achievable_accuracy`.
        undersegmentation: Mean over annotators, see `undersegmentation_error`.
        segments: How many.
        annotators: How many.
    """

    counts: BoundaryCounts
    achievable_accuracy: float
    undersegmentation: float
    segments: int
    annotators: int


def score_segments(
    segments: np.ndarray, annotations: Sequence[np.ndarray], tolerance: int = 2
) -> SegmentScores:
    """Scores of one image's segments, as in `count_boundaries`."""
    counts = count_boundaries(segments, annotations, tolerance)
    accuracy = [achievable_accuracy(segments, truth) for truth in annotations]
    error = [undersegmentation_error(segments, truth) for truth in annotations]
    return SegmentScores(
        counts,
        float(np.mean(accuracy)),
        float(np.mean(error)),
        len(np.unique(segments)),
        len(annotations),
    )


def summarize(scores: Iterable[SegmentScores]) -> dict[str, float | int | None]:
    """Scores of a data set: outlines' counts added up over the images, means of all else.

    Returns:
        ``boundary_precision``, ``boundary_recall``, ``boundary_f`` (of the sums),
        ``mean_image_f`` (over images that have one), ``achievable_accuracy``,
        ``undersegmentation``, ``segments_per_image``, ``images`` and ``annotations``.

    Raises:
        ValueError: No scores.
    """
    listed = list(scores)
    if not listed:
        raise ValueError("there are no scores of images")
    counts = sum((each.counts for each in listed), BoundaryCounts())
    by_image = [f for each in listed if (f := each.counts.f_score) is not None]
    return {
        "boundary_precision": counts.precision,
        "boundary_recall": counts.recall,
        "boundary_f": counts.f_score,
        "mean_image_f": float(np.mean(by_image)) if by_image else None,
        "achievable_accuracy": float(np.mean([each.achievable_accuracy for each in listed])),
        "undersegmentation": float(np.mean([each.undersegmentation for each in listed])),
        "segments_per_image": float(np.mean([each.segments for each in listed])),
        "images": len(listed),
        "annotations": sum(each.annotators for each in listed),
    }


def read_annotations(folder: Path, split: str, stem: str) -> dict[str, np.ndarray]:
    """Maps of segments that several people drew of an image.

    Args:
        folder: With ``labels/<split>/<stem>_<annotator>.png``.
        split: Its split.
        stem: Name of the image, without its ending.

    Returns:
        Annotator to integer (H, W), in the order of their names.

    Raises:
        UserError: There are none, or one cannot be read or is no map of numbers.
    """
    home = folder / "labels" / split
    files = {
        file.stem.removeprefix(f"{stem}_"): file
        for file in sorted(home.iterdir() if home.is_dir() else ())
        if file.suffix == ".png" and file.stem.rpartition("_")[0] == stem
    }
    if not files:
        raise UserError(f"{home}: no {stem}_<annotator>.png")
    return {name: _read(file) for name, file in files.items()}


def _read(file: Path) -> np.ndarray:
    try:
        labels = np.asarray(open_picture(file))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{file} cannot be read ({brief(error)}): take it out, or make it anew"
        ) from error
    if labels.ndim != 2:
        raise UserError(
            f"{file} has {labels.shape[-1]} channels: a map of segments has a number a pixel; save "
            "the numbers of segments as a grey or palette PNG"
        )
    return labels.astype(np.int64)


def _check(segments: np.ndarray, annotations: Sequence[np.ndarray]) -> None:
    if not len(annotations):
        raise UserError("boundaries: there is no annotation to compare with")
    for annotation in annotations:
        if annotation.shape != segments.shape:
            raise UserError(
                f"boundaries: an annotation is {_size(annotation)} pixels, its image "
                f"{_size(segments)}: draw it over the upright image, or take it out"
            )


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"


def _near(outline: np.ndarray, tolerance: int) -> np.ndarray:
    """Pixels with one of an outline at most so far along both axes: bool (H, W)."""
    import cv2

    side = 2 * tolerance + 1
    return cv2.dilate(outline.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)
