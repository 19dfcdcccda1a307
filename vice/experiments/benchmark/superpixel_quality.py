"""How well superpixels respect the outlines that people drew, by `vice.evaluation.boundaries`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vice.errors import UserError
from vice.evaluation.boundaries import (
    achievable_accuracy,
    boundary_recall,
    read_annotations,
    undersegmentation_error,
)
from vice.images import read_image
from vice.runtime.progress import progress

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
        truths = list(read_annotations(folder, "val", path.stem).values())
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
