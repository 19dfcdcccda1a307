"""The positional bias of a frozen embedder, on samples that MMSegmentation's pipeline reads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.evaluation.results import describe
from vice.evaluation.task import make_task
from vice.parts import check_packages
from vice.plugins.mmseg.backbone import share_embedder
from vice.plugins.mmseg.content import check_data
from vice.plugins.mmseg.evaluate_clusters import check_numbers
from vice.plugins.mmseg.holding import writes_results
from vice.plugins.mmseg.position_readout import PositionReadout
from vice.plugins.mmseg.results import finish
from vice.plugins.mmseg.running import dataset_config, process_state_kept
from vice.plugins.mmseg.sample_embeddings import embed_images
from vice.runtime.collectives import on_first_rank
from vice.runtime.step_meter import StepMeter


@writes_results
@process_state_kept()
def evaluate_position(
    spec: str,
    dataset: str | Path,
    out_dir: str | Path,
    *,
    clusters: Sequence[int] = (),
    **task_arguments: Any,
) -> dict[str, Any]:
    """Predicts where pixels lie from their embeddings, and scores them without what says it.

    ``linear_pixels`` labelled pixels are drawn from each split: from the fitted one as the linear
    probe sees it, from the scored one at the size of its label maps. All read-outs are of these
    samples, not of every pixel.

    Args:
        spec: The embedder, as in `vice.models.load.load_extractor`.
        dataset: As in `vice.datasets.open_dataset`.
        out_dir: Gets ``results.json`` and ``per_image.npz``.
        clusters: Numbers of clusters K that are scored, too.
        **task_arguments: Further arguments of `vice.evaluation.task.make_task`.

    Returns:
        What ``results.json`` holds; under ``"position"`` stands what
        `vice.evaluation.position_scores.measure_bias` gives.

    Raises:
        UserError: No such embedder or protocol, labels that are missing, too few pixels, or
            something is wrong with the data set.
    """
    start, meter = time.monotonic(), StepMeter()
    task = make_task(spec, dataset, out_dir, **task_arguments)
    protocol = task.protocol
    if clusters:
        check_numbers(clusters)
        check_packages("faiss")
    if not protocol.fit_labels:
        raise UserError(
            f"{protocol.name} fits on {protocol.fit_split}, which has no labels to score with and "
            "without position: change fit_split and fit_labels"
        )
    sets, content = check_data(task, meter)
    shared = share_embedder(spec, task.seed, features=protocol.features)
    readout = PositionReadout(task, shared, sets, clusters)
    for role, take in (("train", readout.see), ("score", readout.count)):
        with meter.step(f"sample pixels to {role}"):
            # Flip average is off where things are fitted, as for a probe.
            for image in embed_images(
                readout.config,
                task,
                shared,
                dataset_config(task, role),
                training=role == "train",
            ):
                take(image)
    readout.fit(meter)
    readout.close(len(sets[1].pairs(protocol.score_split)), meter)

    def write() -> dict[str, Any]:
        result = {
            **describe("position", task, sets, shared.describe()),
            "content": content,
            **readout.write(meter),
        }
        return finish(result, task, readout.arguments, readout.config, meter, start)

    return on_first_rank(write)
