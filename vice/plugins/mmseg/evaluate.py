"""Linear and cluster evaluation of a dense embedder through MMSegmentation's runner.

Whatever is fitted (probe, centroids, greedy mapping) is fitted on one split and scored on
another. The Hungarian matching is the exception that the papers make: it is taken on the scored
labels themselves, and every result says so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import Tensor

from vice.clustering import DEFAULT_MEMORY, Centroids, fit_kmeans
from vice.errors import UserError
from vice.metering import StepMeter
from vice.plugins.mmseg.backbone import SharedEmbedder, share_embedder
from vice.plugins.mmseg.fitting import sample_split
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.pipelines import optimizer, schedule
from vice.plugins.mmseg.results import (
    describe,
    draw_confusion,
    finish,
    scores,
    write_json,
    write_samples,
)
from vice.plugins.mmseg.running import (
    Task,
    dataset_config,
    finish_config,
    load_config,
    make_task,
    process_state_kept,
    run,
)
from vice.scoring import CountTable


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
        set_schedule(config, task)
        config.model.backbone.cache_bytes = cache_bytes
        config.model.decode_head.update(
            in_channels=shared.embedder.dim,
            num_classes=len(sets[1].classes),
            bottleneck=protocol.linear_bottleneck or None,
            upsample=protocol.upsample,
        )
        config.test_evaluator.max_samples = task.max_maps
        config = finish_config(config, task)
        with meter.step("fit the probe and score it"):
            metric, _ = run(config, train=True)
    table, classes = metric.tables[0], sets[1].classes
    result = {
        **describe("linear", task, sets, describe_model(shared)),
        "linear": {**scores(table, table.identity(), classes), "fitted_on": protocol.fit_split},
        "confusion": table.confusion(table.identity()).tolist(),
        **write_samples(metric, task, {"linear": table.identity()}, len(classes)),
        "pictures": [draw_confusion(table, table.identity(), classes, task, "confusion")],
    }
    return finish(result, task, {"cache_bytes": cache_bytes}, config, meter, start)


@process_state_kept()
def evaluate_clusters(
    spec: str,
    dataset: str | Path,
    out_dir: str | Path,
    *,
    clusters: Sequence[int] = (27,),
    memory_limit: int = DEFAULT_MEMORY,
    cache_bytes: int = 0,
    faiss_gpu: bool = False,
    **task_arguments: Any,
) -> dict[str, Any]:
    """Clusters the embeddings of one split and scores the clusters on another.

    K-means is fitted on a uniform sample of the pixels of the fitted split, at the size of the
    network's input. One pass over that split gives each cluster its majority class (greedy); one
    pass over the scored split serves all numbers of clusters.

    Source: ViCE (BMVC) section 4.1.

    Args:
        spec: The embedder, as in `vice.extractors.load_extractor`.
        dataset: As in `vice.datasets.open_dataset`.
        out_dir: Gets ``results.json``, ``counts.json``, ``confusion_<K>_<matching>.png``,
            ``samples.png``, ``maps/clusters_<K>/<stem>.png`` (the protocol's first matching),
            ``runner/``, ``centroids_<K>.safetensors``, and with the greedy matching
            ``mapping_<K>.json``.
        clusters: Numbers of clusters K.
        memory_limit: Most bytes that k-means works on.
        cache_bytes: Budget for keeping embeddings between the two passes over the fitted split.
        faiss_gpu: Whether k-means runs on FAISS's GPUs.
        **task_arguments: Further arguments of `vice.plugins.mmseg.running.make_task`.

    Returns:
        What ``results.json`` holds; the scores, in [0, 1], are under ``["clusters"][str(K)]`` for
        each matching of the protocol, ``"greedy"`` (fitted on the fitted split) and
        ``"hungarian"`` (matched on the scored split).

    Raises:
        UserError: No such embedder or protocol, a wrong number of clusters, too few pixels, or
            something is wrong with the data set.
    """
    start, meter = time.monotonic(), StepMeter()
    task = make_task(spec, dataset, out_dir, **task_arguments)
    _check_clusters(clusters, task)
    with meter.step("check data"):
        sets = task.open()
    task.out_dir.mkdir(parents=True, exist_ok=True)
    with share_embedder(spec, task.seed, cache_bytes) as shared:
        config = finish_config(load_config("cluster_folder", task), task)
        config.model.backbone.cache_bytes = cache_bytes
        config.model.upsample = task.protocol.upsample
        budget = {"memory_limit": memory_limit, "gpu": faiss_gpu}
        found = _fit(config, task, clusters, describe_model(shared)["spherical"], budget, meter)
        _add_heads(config, task, found)
        fit_tables: list[CountTable] = []
        if "greedy" in task.protocol.matchings:
            with meter.step("map the clusters"):
                fit_tables = _count(config, dataset_config(task, "fit")).tables
            config.test_evaluator.mappings = [table.greedy().tolist() for table in fit_tables]
        config.test_evaluator.max_samples = task.max_maps
        with meter.step("score"):
            metric = _count(config, dataset_config(task, "score"))
    _write_counts(task, fit_tables, metric.tables)
    mappings = [
        _mappings(task, fit_tables[i] if fit_tables else None, table)
        for i, table in enumerate(metric.tables)
    ]
    classes = sets[1].classes
    first = {f"clusters_{k}": next(iter(m.values())) for k, m in zip(found, mappings, strict=True)}
    result = {
        **describe("clusters", task, sets, describe_model(shared)),
        "clusters": {
            str(k): {
                **_scores(task, metric.tables[i], mappings[i], classes),
                "empty_clusters": int(((fit_tables or metric.tables)[i].counts.sum(1) == 0).sum()),
                "objective": found[k].objective,
            }
            for i, k in enumerate(found)
        },
        **write_samples(metric, task, first, len(classes)),
        "pictures": [
            draw_confusion(table, mapping, classes, task, f"confusion_{table.num_clusters}_{name}")
            for table, of in zip(metric.tables, mappings, strict=True)
            for name, mapping in of.items()
        ],
    }
    arguments = {
        "clusters": list(clusters),
        "memory_limit": memory_limit,
        "cache_bytes": cache_bytes,
        "faiss_gpu": faiss_gpu,
    }
    return finish(result, task, arguments, config, meter, start)


def describe_model(shared: SharedEmbedder) -> dict[str, Any]:
    """What a result says of the embedder."""
    from vice.extractors import is_spherical

    embedder = shared.embedder
    return {
        "digest": shared.digest,
        "dim": embedder.dim,
        "spherical": is_spherical(embedder),
        "architecture": getattr(embedder, "config", type(embedder).__name__),
    }


def set_schedule(config: Config, task: Task) -> None:
    """Writes the protocol's optimizer, schedule and batch into a config."""
    protocol = task.protocol
    end = protocol.linear_iterations
    config.train_cfg.update(max_iters=end, val_interval=end)
    config.optim_wrapper.optimizer = optimizer(protocol)
    config.param_scheduler = schedule(protocol)
    config.default_hooks.checkpoint.interval = end
    config.train_dataloader.batch_size = protocol.linear_batch
    # The scored split is looked at once, when training has ended.
    config.val_dataloader = config.val_cfg = config.val_evaluator = None


def _fit(
    config: Config,
    task: Task,
    clusters: Sequence[int],
    spherical: bool,
    budget: dict[str, Any],
    meter: StepMeter,
) -> dict[int, Centroids]:
    with meter.step("sample pixels"):
        vectors = sample_split(config, task)
    found = {}
    for k in clusters:
        with meter.step(f"k-means {k}"):
            found[k] = fit_kmeans(
                vectors,
                k,
                spherical=spherical,
                seed=task.seed,
                iterations=task.protocol.kmeans_iterations,
                **budget,
            )
    return found


def _add_heads(config: Config, task: Task, found: dict[int, Centroids]) -> None:
    files = {k: str(task.out_dir / f"centroids_{k}.safetensors") for k in found}
    for k, centroids in found.items():
        centroids.save(files[k])
    config.model.decode_head = [
        {"type": "ClusterHead", "centroids": file} for file in files.values()
    ]
    config.test_evaluator.num_clusters = list(found)


def _count(config: Config, dataset: dict[str, Any]) -> CountMetric:
    config.test_dataloader.dataset = dataset
    return run(config, train=False)[0]


def _write_counts(task: Task, fit: list[CountTable], score: list[CountTable]) -> None:
    for table in fit:
        path = task.out_dir / f"mapping_{table.num_clusters}.json"
        write_json(path, table.greedy().tolist())
    counts = {
        name: {str(table.num_clusters): table.counts.tolist() for table in tables}
        for name, tables in (("fit", fit), ("score", score))
    }
    write_json(task.out_dir / "counts.json", counts)


def _mappings(task: Task, fit: CountTable | None, score: CountTable) -> dict[str, Tensor]:
    """The matchings that the protocol asks for: name to class of each cluster."""
    found = {}
    for name in task.protocol.matchings:
        table = fit if name == "greedy" else score
        assert table is not None
        found[name] = table.greedy() if name == "greedy" else table.hungarian()
    return found


def _scores(
    task: Task, table: CountTable, mappings: dict[str, Tensor], classes: tuple[str, ...]
) -> dict[str, Any]:
    splits = {"greedy": task.protocol.fit_split, "hungarian": task.protocol.score_split}
    return {
        name: {
            **scores(table, mapping, classes),
            "mapping": mapping.tolist(),
            "fitted_on": splits[name],
        }
        for name, mapping in mappings.items()
    }


def _check_clusters(clusters: Sequence[int], task: Task) -> None:
    if not clusters or min(clusters) < 1 or len(set(clusters)) < len(clusters):
        raise UserError(
            f"clusters {list(clusters)}: give one or more different numbers, each at least 1"
        )
    if not task.protocol.fit_labels and "greedy" in task.protocol.matchings:
        raise UserError(
            f"the greedy matching needs labels on {task.protocol.fit_split}: set matchings to "
            "hungarian alone"
        )
