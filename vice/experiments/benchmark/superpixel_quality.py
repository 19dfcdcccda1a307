"""How well superpixels respect the outlines that people drew.

Definitions: Neubert and Protzel, "Superpixel benchmark and comparison" (2012), and Liu et al.,
"Entropy rate superpixel segmentation" (2011).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vice.errors import UserError
from vice.images import read_image
from vice.images.picture_formats import open_picture
from vice.runtime.progress import progress


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
    import cv2

    wanted = boundaries(truth)
    if not wanted.any():
        return 1.0
    side = 2 * tolerance + 1
    near = cv2.dilate(boundaries(regions).astype(np.uint8), np.ones((side, side), np.uint8))
    return float(near[wanted].mean())


def boundaries(labels: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour has another label: bool (H, W)."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


METRICS = {
    "boundary recall": boundary_recall,
    "achievable accuracy": achievable_accuracy,
    "undersegmentation": undersegmentation_error,
}


def quality(
    folder: Path, methods: Mapping[str, Callable[[np.ndarray], np.ndarray]], limit: int = 50
) -> dict[str, dict[str, float]]:
    """Means over images and annotators of a folder in the layout of BSDS500's copies.

    Args:
        folder: ``images/val/<id>.jpg`` and ``labels/val/<id>_<annotator>.png``.
        methods: Name to a function from an image to a region map.
        limit: Most images, in the order of their names.

    Returns:
        For each method its mean of each of ``METRICS`` and of the number of ``regions``.

    Raises:
        UserError: No images there, or one without annotations.
    """
    paths = sorted((folder / "images" / "val").glob("*.jpg"))[:limit]
    if not paths:
        raise UserError(f"{folder}: no images/val/*.jpg")
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    for path in progress(paths, len(paths), "superpixel quality"):
        image = read_image(path)
        truths = [np.asarray(open_picture(file)) for file in _annotations(folder, path.stem)]
        for name, method in methods.items():
            regions = method(image)
            row = {
                metric: float(np.mean([measure(regions, truth) for truth in truths]))
                for metric, measure in METRICS.items()
            }
            scores[name].append({**row, "regions": float(len(np.unique(regions)))})
    return {
        name: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        for name, rows in scores.items()
    }


def _annotations(folder: Path, stem: str) -> list[Path]:
    files = sorted((folder / "labels" / "val").glob(f"{stem}_*.png"))
    if not files:
        raise UserError(f"{folder / 'labels' / 'val'}: no {stem}_<annotator>.png")
    return files
