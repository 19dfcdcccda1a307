"""Dense nearest-neighbour retrieval of a frozen embedder through MMSegmentation's runner."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.evaluation.results import describe
from vice.evaluation.task import make_task
from vice.plugins.mmseg.backbone import share_embedder
from vice.plugins.mmseg.content import look_at_images
from vice.plugins.mmseg.dataset import keep_subset
from vice.plugins.mmseg.holding import writes_results
from vice.plugins.mmseg.results import finish
from vice.plugins.mmseg.retrieval_readout import DEFAULT_MEMORY, RetrievalReadout
from vice.plugins.mmseg.running import dataset_config, process_state_kept, run
from vice.plugins.mmseg.sample_embeddings import embed_images
from vice.runtime.collectives import on_first_rank
from vice.runtime.step_meter import StepMeter


@writes_results
@process_state_kept()
def evaluate_retrieval(
    spec: str,
    dataset: str | Path,
    out_dir: str | Path,
    *,
    fraction: float = 1.0,
    subset_seed: int = 0,
    memory_limit: int = DEFAULT_MEMORY,
    cache_bytes: int = 0,
    **task_arguments: Any,
) -> dict[str, Any]:
    """Labels each patch of one split by its nearest neighbours among those of another.

    How large the memory becomes stands in the log before the first image is embedded, and how
    long the search will take before it starts.

    Source: see `vice.evaluation.retrieval`; the protocol holds the settings.

    Args:
        spec: The embedder, as in `vice.models.load.load_extractor`.
        dataset: As in `vice.datasets.open_dataset`.
        out_dir: Gets ``results.json``, ``per_image.npz``, ``confusion_<matching>.png``,
            ``samples.png``, ``maps/retrieval/<stem>.png`` (the protocol's first matching),
            ``runner/`` and, of a subset, ``subset.txt`` (the images that the memory is of, a line
            each).
        fraction: Share of the fitted split that the memory is of, in (0, 1].
        subset_seed: Which subset of that size, see `vice.datasets.subsets.take_subset`.
        memory_limit: Most bytes of the memory and the search in it.
        cache_bytes: Budget for keeping embeddings.
        **task_arguments: Further arguments of `vice.evaluation.task.make_task`.

    Returns:
        What ``results.json`` holds; the scores, in [0, 1], are under
        ``["retrieval"][matching]``, and under ``"memory"`` stands what was compared with.

    Raises:
        UserError: No such embedder or protocol, a memory that does not fit the limit, a grid that
            the embedding cannot be brought to, or something is wrong with the data set.
    """
    start, meter = time.monotonic(), StepMeter()
    task = make_task(spec, dataset, out_dir, **task_arguments)
    if not task.protocol.fit_labels:
        raise UserError(
            f"{task.protocol.name} fits on {task.protocol.fit_split}, which has no labels to "
            "retrieve: change fit_split and fit_labels, or evaluate clusters"
        )
    with meter.step("check data"):
        sets = task.open()
        pairs = keep_subset(sets[0].pairs(task.protocol.fit_split), fraction, subset_seed)
        task.require_labels(sets, fit=True, pairs=pairs)
        content = look_at_images(task, sets, pairs)
    shared = share_embedder(spec, task.seed, cache_bytes, task.protocol.features)
    subset = {"fraction": fraction, "subset_seed": subset_seed}
    readout = RetrievalReadout(
        task,
        shared,
        sets,
        pairs=pairs,
        subset=subset,
        memory_limit=memory_limit,
        cache_bytes=cache_bytes,
    )
    with meter.step("fill the memory"):
        images = {**dataset_config(task, "fit"), **subset}
        for image in embed_images(readout.config, task, shared, images):
            readout.see(image)
        readout.fit(meter)
    shared.head["memory"] = readout.memory
    with meter.step("score"):
        readout.metric = run(readout.config, shared, train=False)

    def write() -> dict[str, Any]:
        result = {
            **describe("retrieval", task, sets, shared.describe()),
            "content": content,
            **readout.write(meter),
        }
        return finish(result, task, readout.arguments, readout.config, meter, start)

    return on_first_rank(write)
