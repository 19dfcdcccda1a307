"""Dense nearest-neighbour retrieval of a frozen embedder through MMSegmentation's runner."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from torch import Tensor

from vice.errors import UserError
from vice.evaluation.intervals import resampled_mapping
from vice.evaluation.matchings import match
from vice.evaluation.results import describe, scores
from vice.evaluation.retrieval import (
    MemorySampler,
    RetrievalMemory,
    memory_bytes,
    patch_grid,
    to_patches,
)
from vice.evaluation.task import Task, make_task
from vice.plugins.mmseg.backbone import SharedEmbedder, share_embedder
from vice.plugins.mmseg.content import look_at_images
from vice.plugins.mmseg.dataset import CROPS, keep_subset
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.results import absent, draw_confusion, finish, resample, write_samples
from vice.plugins.mmseg.running import (
    dataset_config,
    finish_config,
    load_config,
    names_full_disk,
    process_state_kept,
    run,
)
from vice.plugins.mmseg.sample_embeddings import embed_images
from vice.plugins.mmseg.subset_list import write_subset
from vice.runtime.collectives import cpu_group, on_first_rank, world_size
from vice.runtime.step_meter import StepMeter

logger = logging.getLogger(__name__)
DEFAULT_MEMORY = 2 * 1024**3


@names_full_disk
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
    config = finish_config(load_config("retrieval_folder", task), task)
    config.model.backbone.cache_bytes = cache_bytes
    config.model.decode_head.patch = _patch(task)
    config.model.decode_head.upsample = task.protocol.upsample
    config.test_evaluator.update(max_samples=task.max_maps, per_image=True)
    classes = sets[1].classes
    subset = {"fraction": fraction, "subset_seed": subset_seed}
    with meter.step("fill the memory"):
        sampler = _sampler(task, shared, len(pairs), len(classes), memory_limit)
        memory, known = _fill(config, task, shared, sampler, subset)
    _tell_time(memory, known["cells"], len(sets[1].pairs(task.protocol.score_split)))
    shared.head["memory"] = memory
    with meter.step("score"):
        metric = run(config, shared, train=False)
    arguments = {**subset, "memory_limit": memory_limit, "cache_bytes": cache_bytes}

    def write() -> dict[str, Any]:
        task.out_dir.mkdir(parents=True, exist_ok=True)
        names = [pair.image.stem for pair in pairs]
        result = {
            **describe("retrieval", task, sets, shared.describe()),
            "content": content,
            **({"subset": write_subset(names, task)} if fraction < 1 else {}),
            "memory": {**known, **memory.describe()},
            **_write_scores(task, metric, memory.labels.sum(0) > 0, classes, meter),
        }
        return finish(result, task, arguments, config, meter, start)

    return on_first_rank(write)


def _patch(task: Task) -> int | None:
    protocol = task.protocol
    return protocol.retrieval_patch if protocol.retrieval_grid == "patch" else None


def _sampler(
    task: Task, shared: SharedEmbedder, images: int, classes: int, memory_limit: int
) -> MemorySampler:
    """An empty memory; says how large it will be."""
    protocol, dim = task.protocol, shared.embedder.dim
    images *= CROPS[protocol.fit_crops]
    sampler = MemorySampler(
        protocol.retrieval_memory,
        images,
        classes,
        seed=task.seed,
        ignored=protocol.retrieval_ignored,
    )
    vectors = sampler.each * images
    needed = memory_bytes(vectors, dim, classes)
    if needed > memory_limit:
        gib = math.ceil(100 * needed / 2**30) / 100
        raise UserError(
            f"a memory of {vectors} vectors of {dim} dimensions takes {_mib(needed)} with the "
            f"search in it, more than memory_limit, {_mib(memory_limit)}: give it {needed} bytes "
            f"(--memory-gib {gib}), or lower retrieval_memory ({protocol.retrieval_memory})"
        )
    logger.info(
        "memory: at most %d patches of each of %d images, %d vectors of %d dimensions: %s with "
        "the search in it",
        sampler.each, images, vectors, dim, _mib(needed),
    )  # fmt: skip
    return sampler


def _fill(
    config: Config,
    task: Task,
    shared: SharedEmbedder,
    sampler: MemorySampler,
    subset: dict[str, Any],
) -> tuple[RetrievalMemory, dict[str, Any]]:
    """The memory on the device, and what is known of the images it is of."""
    protocol, patch = task.protocol, _patch(task)
    dataset = {**dataset_config(task, "fit"), **subset}
    for image in embed_images(config, task, shared, dataset):
        grid = patch_grid(image.size, patch) if patch else None
        patches = to_patches(image.embedding[None], grid)[0]
        sampler.add(patches, image.sample.gt_sem_seg.data[0], image.index)
    sampler.gather(cpu_group())
    known = sampler.describe()
    if known["unlabelled"]:
        logger.warning(
            "%.1f %% of the pixels of the memory's images are ignored ones: %s",
            100 * known["unlabelled"], _IGNORED[protocol.retrieval_ignored],
        )  # fmt: skip
    device = task.device or get_device()
    memory = sampler.memory(
        neighbours=protocol.retrieval_neighbours,
        temperature=protocol.retrieval_temperature,
    )
    if len(memory) < protocol.retrieval_neighbours:
        logger.warning(
            "the memory has %d vectors, fewer than the %d neighbours of the protocol: all are "
            "asked", len(memory), protocol.retrieval_neighbours,
        )  # fmt: skip
    return memory.to(device), known


def _tell_time(memory: RetrievalMemory, cells: float, images: int) -> None:
    queries = round(cells * images / world_size())
    logger.info(
        "searching %d vectors for the neighbours of about %d patches: about %.0f s, beside "
        "embedding the images",
        len(memory), queries, memory.seconds_for(queries),
    )  # fmt: skip


def _write_scores(
    task: Task, metric: CountMetric, fitted: Tensor, classes: tuple[str, ...], meter: StepMeter
) -> dict[str, Any]:
    """The part of a result that the table gives, with maps and pictures written."""
    (table,) = metric.tables
    protocol = task.protocol
    mappings = {name: match(name, table) for name in protocol.retrieval_matchings}
    (images,) = metric.image_tables
    resampled = {name: resampled_mapping(name, each) for name, each in mappings.items()}
    kind = "retrieval"
    intervals = resample(task, {kind: images}, {kind: resampled}, classes, meter)[kind]
    entries = {
        name: {
            **scores(table, mapping, classes, intervals[name], over=protocol.miou_over),
            "mapping": mapping.tolist(),
            "fitted_on": protocol.fit_split if name == "none" else protocol.score_split,
        }
        for name, mapping in mappings.items()
    }
    first = next(iter(mappings.values()))
    return {
        "retrieval": entries,
        "absent": absent(task, classes, fitted.cpu(), table),
        "confusion": table.confusion(table.identity()).tolist(),
        **write_samples(metric, task, {"retrieval": first}, len(classes)),
        "pictures": [
            draw_confusion(table, mapping, classes, task, f"confusion_{name}")
            for name, mapping in mappings.items()
        ],
    }


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


_IGNORED = {
    "class0": "retrieval_ignored=class0 counts them as the first class",
    "left_out": "retrieval_ignored=left_out leaves them out of the soft labels",
}
