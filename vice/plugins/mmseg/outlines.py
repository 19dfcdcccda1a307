"""Outlines of the segments that an evaluation's clusters make, on a folder of annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.evaluation.evaluate_boundaries import BoundaryReadout, score_boundaries
from vice.evaluation.outlined_images import require_annotations
from vice.evaluation.protocols import Protocol
from vice.evaluation.task import Task
from vice.predictor import load
from vice.runtime.collectives import on_first_rank

#: Split of the folder that is scored.
SPLIT = "val"
#: What results of the checkpoint's own concepts are called.
OWN = "own"


def check_outlines(folder: str | Path, clusters: Protocol | None) -> None:
    """Raises a `UserError` where no outlines can be scored, before anything is embedded.

    Args:
        folder: As in `vice.evaluation.evaluate_boundaries.evaluate_boundaries`.
        clusters: Protocol of the clusters; None: there are none.
    """
    on_first_rank(lambda: require_annotations(folder, SPLIT))
    if clusters is not None and clusters.clusters == "objects":
        raise UserError(
            "outlines are those of pixels' clusters, and clusters=objects has none: leave "
            "boundaries or clusters out"
        )


def score_outlines(
    task: Task, folder: str | Path, clusters: Sequence[int], out_dir: Path
) -> dict[str, dict[str, Any]]:
    """Scores the outlines of all numbers of clusters; each image is embedded once.

    The images are not those of the data set, and keep their own size and pass, on the first rank.

    Args:
        task: Of clusters that were fitted; without clusters, any.
        folder: As in `vice.evaluation.evaluate_boundaries.evaluate_boundaries`.
        clusters: Numbers of clusters K; none: the checkpoint's own concepts.
        out_dir: Gets a results directory for each, named by the number, or ``own``.

    Returns:
        Name of the directory to what its ``results.json`` holds.

    Raises:
        UserError: As of `evaluate_boundaries`.
    """

    def measure() -> dict[str, dict[str, Any]]:
        predictor = load(task.spec, task.device)
        if clusters:
            files = {str(k): task.out_dir / f"centroids_{k}.safetensors" for k in clusters}
            readouts = [BoundaryReadout.of_file(out_dir / k, file) for k, file in files.items()]
        else:
            readouts = [BoundaryReadout.of_checkpoint(out_dir / OWN, predictor)]
        found = score_boundaries(
            readouts, predictor, folder, spec=task.spec, split=SPLIT, seed=task.seed
        )
        names = (readout.out_dir.name for readout in readouts)
        return dict(zip(names, found, strict=True))

    return on_first_rank(measure)
