"""The positional bias of a frozen embedder, on samples that MMSegmentation's pipeline reads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.device import get_device
from torch import Tensor

from vice.errors import UserError
from vice.evaluation.positional_bias import PixelSample, ReadOuts, measure_bias
from vice.evaluation.results import describe
from vice.evaluation.task import make_task
from vice.models.load import is_spherical
from vice.plugins.mmseg.backbone import share_embedder
from vice.plugins.mmseg.content import check_data
from vice.plugins.mmseg.results import finish
from vice.plugins.mmseg.running import (
    finish_config,
    load_config,
    names_full_disk,
    process_state_kept,
)
from vice.plugins.mmseg.sample_embeddings import sample_split
from vice.runtime.collectives import on_first_rank
from vice.runtime.step_meter import StepMeter


@names_full_disk
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
        out_dir: Gets ``results.json``.
        clusters: Numbers of clusters K that are scored, too.
        **task_arguments: Further arguments of `vice.evaluation.task.make_task`.

    Returns:
        What ``results.json`` holds; under ``"position"`` stands what
        `vice.evaluation.positional_bias.measure_bias` gives.

    Raises:
        UserError: No such embedder or protocol, labels that are missing, too few pixels, or
            something is wrong with the data set.
    """
    start, meter = time.monotonic(), StepMeter()
    task = make_task(spec, dataset, out_dir, **task_arguments)
    protocol = task.protocol
    if not protocol.fit_labels:
        raise UserError(
            f"{protocol.name} fits on {protocol.fit_split}, which has no labels to score with and "
            "without position: change fit_split and fit_labels"
        )
    sets, content = check_data(task, meter)
    shared = share_embedder(spec, task.seed, features=protocol.features)
    config = finish_config(load_config("linear_folder", task), task)
    drawn = []
    for role in ("train", "score"):
        with meter.step(f"sample pixels to {role}"):
            drawn.append(
                sample_split(
                    config, task, shared, protocol.linear_pixels, role=role, positions=True
                )
            )
    asked = ReadOuts(
        classes=sets[1].classes,
        clusters=clusters,
        spherical=is_spherical(shared.embedder),
        l2=protocol.linear_l2,
        iterations=protocol.linear_iterations,
        kmeans_iterations=protocol.kmeans_iterations,
        over=protocol.miou_over,
        seed=task.seed,
        device=task.device or get_device(),
    )
    with meter.step("fit and score"):
        found = on_first_rank(lambda: measure_bias(_parts(drawn[0]), _parts(drawn[1]), asked))

    def write() -> dict[str, Any]:
        task.out_dir.mkdir(parents=True, exist_ok=True)
        result = {
            **describe("position", task, sets, shared.describe()),
            "content": content,
            "position": found,
        }
        return finish(result, task, {"clusters": list(clusters)}, config, meter, start)

    return on_first_rank(write)


def _parts(sample: Tensor | None) -> PixelSample:
    assert sample is not None  # The first rank holds it, and it alone fits.
    vectors, positions, labels = sample[:, :-3], sample[:, -3:-1], sample[:, -1]
    return PixelSample(vectors.contiguous(), positions, labels.long())
