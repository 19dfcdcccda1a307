"""Linear and cluster evaluation of a dense embedder through MMSegmentation's runner.

Whatever is fitted (probe, centroids, greedy mapping) is fitted on one split and scored on
another. The Hungarian matching is the exception that the papers make: it is taken on the scored
labels themselves, and every result says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from vice import extractors
from vice.clustering import DEFAULT_MEMORY, Centroids, fit_kmeans
from vice.errors import UserError
from vice.plugins.mmseg.fitting import sample_split
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.results import describe, map_files, plain, scores, write_json
from vice.plugins.mmseg.running import Task, finish_config, load_config, process_state_kept, run
from vice.scoring import CountTable

logger = logging.getLogger(__name__)


@process_state_kept()
def evaluate_linear(
    spec: str,
    dataset_root: str | Path,
    out_dir: str | Path,
    *,
    iterations: int = 12000,
    batch_size: int = 16,
    bottleneck: int | None = None,
    cache_bytes: int = 0,
    **task_arguments: Any,
) -> dict[str, Any]:
    """Trains a linear probe on frozen embeddings of one split and scores it on another.

    Source: ViCE (BMVC) section 4.1; the schedule is ``configs/mmseg/_base_/schedules``.

    Args:
        spec: The embedder, as in `vice.extractors.load_extractor`.
        dataset_root: A data set in the labelled-folder layout.
        out_dir: Gets ``results.json``, ``maps/<stem>.png`` and ``runner/`` (config, log, weights).
        iterations: Steps of SGD.
        batch_size: Images a step.
        bottleneck: Width of the bottleneck variant, or None.
        cache_bytes: Budget for keeping embeddings of train images and their flips.
        **task_arguments: Further fields of `vice.plugins.mmseg.running.Task`.

    Returns:
        What ``results.json`` holds; the scores, in [0, 1], are under ``"linear"``.

    Raises:
        UserError: No such embedder, or something is wrong with the data set.
    """
    start = time.monotonic()
    task = Task(spec, Path(dataset_root), Path(out_dir), **task_arguments)
    folder = task.folder()
    if min(iterations, batch_size) < 1:
        raise UserError("iterations and batch size must be at least 1")
    config = load_config("linear_folder", task)
    _set_schedule(config, iterations, batch_size)
    config.model.backbone.cache_bytes = cache_bytes
    config.model.decode_head.update(
        in_channels=extractors.load_extractor(spec, seed=task.seed).dim,
        num_classes=len(folder.classes),
        bottleneck=bottleneck,
    )
    config.test_evaluator.update(maps_dir=str(task.out_dir / "maps"), max_maps=task.max_maps)
    config = finish_config(config, task)
    metric = run(config, train=True)
    table = metric.tables[0]
    arguments = {
        "iterations": iterations,
        "batch_size": batch_size,
        "bottleneck": bottleneck,
        "cache_bytes": cache_bytes,
    }
    result = {
        **describe("linear", task, folder, arguments, config),
        "linear": scores(table, table.identity(), folder.classes),
        "confusion": table.confusion(table.identity()).tolist(),
        "maps": map_files(metric, task),
    }
    return _finish(result, task, start)


@process_state_kept()
def evaluate_clusters(
    spec: str,
    dataset_root: str | Path,
    out_dir: str | Path,
    *,
    clusters: Sequence[int] = (27,),
    max_pixels: int = 500_000,
    iterations: int = 20,
    memory_limit: int = DEFAULT_MEMORY,
    **task_arguments: Any,
) -> dict[str, Any]:
    """Clusters the embeddings of one split and scores the clusters on another.

    K-means is fitted on a uniform sample of the pixels of the fitted split, at image resolution.
    One pass over that split gives each cluster its majority class (greedy); one pass over the
    scored split serves all numbers of clusters.

    Source: ViCE (BMVC) section 4.1.

    Args:
        spec: The embedder, as in `vice.extractors.load_extractor`.
        dataset_root: A data set in the labelled-folder layout.
        out_dir: Gets ``results.json``, ``counts.json``, ``runner/``,
            ``centroids_<K>.safetensors``, ``mapping_<K>.json`` (greedy),
            ``maps/clusters_<K>/<stem>.png`` (greedy).
        clusters: Numbers of clusters K.
        max_pixels: Most pixels that k-means sees.
        iterations: Most iterations of k-means.
        memory_limit: Most bytes that k-means works on.
        **task_arguments: Further fields of `vice.plugins.mmseg.running.Task`.

    Returns:
        What ``results.json`` holds; the scores, in [0, 1], are under ``["clusters"][str(K)]``,
        ``"greedy"`` (fitted on the fitted split) and ``"hungarian"`` (matched on the scored split).

    Raises:
        UserError: No such embedder, a wrong number of clusters, too few pixels, or something is
            wrong with the data set.
    """
    start = time.monotonic()
    task = Task(spec, Path(dataset_root), Path(out_dir), **task_arguments)
    folder = task.folder()
    _check_clusters(clusters)
    task.out_dir.mkdir(parents=True, exist_ok=True)
    config = finish_config(load_config("cluster_folder", task), task)
    vectors, spherical = sample_split(config, task, max_pixels)
    arguments: dict[str, Any] = {"iterations": iterations, "memory_limit": memory_limit}
    found = {
        k: fit_kmeans(vectors, k, spherical=spherical, seed=task.seed, **arguments)
        for k in clusters
    }
    del vectors
    _add_heads(config, task, found)
    fit = _count(config, task.split_fit)
    config.test_evaluator.update(
        mappings=[table.greedy().tolist() for table in fit.tables],
        maps_dir=str(task.out_dir / "maps"),
        max_maps=task.max_maps,
    )
    score = _count(config, task.split_score)
    _write_counts(task, fit.tables, score.tables)
    arguments |= {"clusters": list(clusters), "max_pixels": max_pixels}
    matched = zip(found.items(), fit.tables, score.tables, strict=True)
    result = {
        **describe("clusters", task, folder, arguments, config),
        "spherical": spherical,
        "clusters": {
            str(k): _matchings(fit_table, score_table, task, folder.classes)
            | {"objective": centroids.objective}
            for (k, centroids), fit_table, score_table in matched
        },
        "maps": map_files(score, task),
    }
    return _finish(result, task, start)


def _set_schedule(config: Config, iterations: int, batch_size: int) -> None:
    config.train_cfg.update(max_iters=iterations, val_interval=iterations)
    config.param_scheduler[0].end = iterations
    config.default_hooks.checkpoint.interval = iterations
    config.train_dataloader.batch_size = batch_size
    # The scored split is looked at once, when training has ended.
    config.val_dataloader = config.val_cfg = config.val_evaluator = None


def _add_heads(config: Config, task: Task, found: dict[int, Centroids]) -> None:
    files = {k: str(task.out_dir / f"centroids_{k}.safetensors") for k in found}
    for k, centroids in found.items():
        centroids.save(files[k])
    config.model.decode_head = [
        {"type": "ClusterHead", "centroids": file} for file in files.values()
    ]
    config.test_evaluator.num_clusters = list(found)


def _count(config: Config, split: str) -> CountMetric:
    config.test_dataloader.dataset.split = split
    return run(config, train=False)


def _write_counts(task: Task, fit: list[CountTable], score: list[CountTable]) -> None:
    for table in fit:
        path = task.out_dir / f"mapping_{table.num_clusters}.json"
        write_json(path, table.greedy().tolist())
    counts = {
        name: {str(table.num_clusters): table.counts.tolist() for table in tables}
        for name, tables in (("fit", fit), ("score", score))
    }
    write_json(task.out_dir / "counts.json", counts)


def _matchings(
    fit: CountTable, score: CountTable, task: Task, classes: tuple[str, ...]
) -> dict[str, Any]:
    greedy, hungarian = fit.greedy(), score.hungarian()
    return {
        "greedy": {
            **scores(score, greedy, classes),
            "mapping": greedy.tolist(),
            "fitted_on": task.split_fit,
        },
        "hungarian": {
            **scores(score, hungarian, classes),
            "mapping": hungarian.tolist(),
            "fitted_on": task.split_score,
        },
        "empty_clusters": int((fit.counts.sum(1) == 0).sum()),
    }


def _check_clusters(clusters: Sequence[int]) -> None:
    if not clusters or min(clusters) < 1 or len(set(clusters)) < len(clusters):
        raise UserError(
            f"clusters {list(clusters)}: give one or more different numbers, each at least 1"
        )


def _finish(result: dict[str, Any], task: Task, start: float) -> dict[str, Any]:
    result = plain({**result, "seconds": round(time.monotonic() - start, 2)})
    write_json(task.out_dir / "results.json", result)
    logger.info("results: %s", task.out_dir / "results.json")
    return result
