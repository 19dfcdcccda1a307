"""Linear evaluation of a frozen embedder through MMSegmentation's runner."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from vice.distributed import on_first_rank
from vice.errors import UserError
from vice.metering import StepMeter
from vice.plugins.mmseg.backbone import share_embedder
from vice.plugins.mmseg.results import class_scores, describe, finish
from vice.plugins.mmseg.running import (
    finish_config,
    load_config,
    make_task,
    process_state_kept,
    run,
    set_probe,
)


@process_state_kept()
def evaluate_linear(
    spec: str,
    dataset: str | Path,
    out_dir: str | Path,
    *,
    cache_bytes: int = 0,
    **task_arguments: Any,
) -> dict[str, Any]:
    """Trains a linear probe on frozen embeddings of one split and scores it on another.

    Source: ViCE (BMVC) section 4.1; the protocol holds the schedule.

    Args:
        spec: The embedder, as in `vice.extractors.load_extractor`.
        dataset: As in `vice.datasets.open_dataset`.
        out_dir: Gets ``results.json``, ``confusion.png``, ``samples.png``,
            ``maps/linear/<stem>.png`` and ``runner/`` (config, log, weights).
        cache_bytes: Budget for keeping embeddings, so that an image seen again costs nothing.
        **task_arguments: Further arguments of `vice.plugins.mmseg.running.make_task`: ``protocol``,
            ``changes``, ``data_root``, ``fit_dataset``, ``seed``, ``device`` and so on.

    Returns:
        What ``results.json`` holds; the scores, in [0, 1], are under ``"linear"``.

    Raises:
        UserError: No such embedder or protocol, or something is wrong with the data set.
    """
    start, meter = time.monotonic(), StepMeter()
    task = make_task(spec, dataset, out_dir, **task_arguments)
    protocol = task.protocol
    if not protocol.fit_labels:
        raise UserError(
            f"{protocol.name} fits on {protocol.fit_split}, which has no labels, so there is no "
            "linear probe: change fit_split and fit_labels, or evaluate clusters"
        )
    with meter.step("check data"):
        sets = task.open()
    with share_embedder(spec, task.seed, cache_bytes) as shared:
        config = load_config("linear_folder", task)
        set_probe(config, task, shared.embedder.dim, len(sets[1].classes))
        config.model.backbone.cache_bytes = cache_bytes
        config = finish_config(config, task)
        with meter.step("fit the probe and score it"):
            metric = run(config, train=True)

    def write() -> dict[str, Any]:
        result = {
            **describe("linear", task, sets, shared.describe()),
            **class_scores("linear", metric, task, sets[1].classes),
        }
        return finish(result, task, {"cache_bytes": cache_bytes}, config, meter, start)

    return on_first_rank(write)
