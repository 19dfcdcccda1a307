"""Cluster evaluation of an embedder through FAISS and MMSegmentation's runner.

Centroids and the greedy mapping are fitted on one split and scored on another. The Hungarian
matching is the exception that the papers make: it is taken on the scored labels themselves, and
every result says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.config import Config
from torch import Tensor, nn

from vice.clustering import DEFAULT_MEMORY, Centroids, fit_several
from vice.errors import UserError
from vice.evaluation.dense_crf import check_crf
from vice.evaluation.matchings import MATCHING_NAMES, ON_FIT, needs_fit_labels
from vice.evaluation.results import describe
from vice.evaluation.task import Task, make_task
from vice.models.load import is_spherical
from vice.parts import check_packages
from vice.plugins.mmseg.backbone import SharedEmbedder, share_embedder
from vice.plugins.mmseg.cluster_head import own_concepts
from vice.plugins.mmseg.cluster_results import write_clusters
from vice.plugins.mmseg.content import check_data
from vice.plugins.mmseg.evaluate_objects import evaluate_objects
from vice.plugins.mmseg.holding import writes_results
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.minibatch_centroids import fit_minibatch
from vice.plugins.mmseg.results import finish
from vice.plugins.mmseg.running import (
    dataset_config,
    finish_config,
    load_config,
    process_state_kept,
    run,
)
from vice.plugins.mmseg.sample_embeddings import sample_split
from vice.runtime.collectives import on_first_rank
from vice.runtime.provenance import digest
from vice.runtime.step_meter import StepMeter
from vice.scoring import CountTable

logger = logging.getLogger(__name__)
#: Numbers of clusters where none is asked for.
DEFAULT_CLUSTERS = (27,)
#: Value of ``clusters`` of a protocol to the package that fits them.
CLUSTER_PACKAGES = {"kmeans": "faiss", "objects": "sklearn"}


@writes_results
@process_state_kept()
def evaluate_clusters(
    spec: str,
    dataset: str | Path,
    out_dir: str | Path,
    *,
    clusters: Sequence[int] | None = None,
    memory_limit: int = DEFAULT_MEMORY,
    cache_bytes: int = 0,
    faiss_gpu: bool = False,
    masks: str | None = None,
    **task_arguments: Any,
) -> dict[str, Any]:
    """Clusters the embeddings of one split and scores the clusters on another.

    K-means is fitted on a uniform sample of the pixels of the fitted split, at the size of the
    network's input. One pass over that split gives each cluster its majority class (greedy); one
    pass over the scored split serves all numbers of clusters.

    Source: ViCE (BMVC) section 4.1.

    Args:
        spec: The embedder, as in `vice.models.load.load_extractor`.
        dataset: As in `vice.datasets.open_dataset`.
        out_dir: Gets ``results.json``, ``per_image.npz``, ``counts.json``,
            ``confusion_<K>_<matching>.png``, ``samples.png``,
            ``maps/clusters_<K>/<stem>.png`` (the protocol's first matching),
            ``runner/``, ``centroids_<K>.safetensors``, and with the greedy matching
            ``mapping_<K>.json``.
        clusters: Numbers of clusters K; None: 27, or with ``clusters="own"`` as many as the
            checkpoint has.
        memory_limit: Most bytes that k-means works on.
        cache_bytes: Budget for keeping embeddings between the two passes over the fitted split.
        faiss_gpu: Whether k-means runs on FAISS's GPUs.
        masks: Folder of foreground masks, see
            `vice.plugins.mmseg.evaluate_objects.evaluate_objects`.
        **task_arguments: Further arguments of `vice.evaluation.task.make_task`.

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
    clusters = _numbers(clusters, task)
    check_clusters(clusters, task)
    if task.protocol.clusters == "objects":
        return evaluate_objects(task, clusters, masks=masks, cache_bytes=cache_bytes)
    if masks is not None:
        raise UserError("--masks: only clusters=objects has a foreground")
    fit_labels = needs_fit_labels(task.protocol.matchings)
    sets, content = check_data(task, meter, fit_labels=fit_labels)
    # Atomicity: results of an earlier evaluation stay until this one has succeeded.
    with TemporaryDirectory() as folder:
        shared = share_embedder(spec, task.seed, cache_bytes, task.protocol.features)
        config = finish_config(load_config("cluster_folder", task), task)
        config.model.backbone.cache_bytes = cache_bytes
        config.model.upsample = task.protocol.upsample
        config.model.crf = task.protocol.crf == "dense"
        _check_crf(task, shared)
        fits: dict[int, Centroids] = {}
        budget = {"memory_limit": memory_limit, "gpu": faiss_gpu}
        if task.protocol.clusters == "own":
            logger.info("%s: %d classes of its own, nothing is fitted", spec, clusters[0])
        elif task.protocol.clusters == "minibatch":
            with meter.step("mini-batch k-means"):
                fits = fit_minibatch(config, task, shared, clusters, sets[0], Path(folder))
        else:
            fits = _fit(config, task, clusters, shared, budget, meter)
        _add_heads(config, Path(folder), fits, spec, clusters)
        fit_tables, metric = _count_both(config, task, shared, meter)
    arguments = {
        "clusters": list(clusters),
        "memory_limit": memory_limit,
        "cache_bytes": cache_bytes,
        "faiss_gpu": faiss_gpu,
    }

    def write() -> dict[str, Any]:
        task.out_dir.mkdir(parents=True, exist_ok=True)
        _add_heads(config, task.out_dir, fits, spec, clusters)
        result = {
            **describe("clusters", task, sets, shared.describe()),
            "content": content,
            **write_clusters(task, fits, fit_tables, metric, sets[1].classes, meter),
        }
        return finish(result, task, arguments, config, meter, start)

    return on_first_rank(write)


def _fit(
    config: Config,
    task: Task,
    clusters: Sequence[int],
    shared: SharedEmbedder,
    budget: dict[str, Any],
    meter: StepMeter,
) -> dict[int, Centroids]:
    with meter.step("sample pixels"):
        vectors = sample_split(config, task, shared, task.protocol.kmeans_pixels)
    return fit_clusters(vectors, task, clusters, shared.embedder, budget, meter)


def fit_clusters(
    vectors: Tensor | None,
    task: Task,
    clusters: Sequence[int],
    embedder: nn.Module,
    budget: dict[str, Any],
    meter: StepMeter,
) -> dict[int, Centroids]:
    """K-means for each number of clusters, on the first rank.

    Args:
        vectors: float32 (N, D) on the first rank, on others anything.
        task: Gives seed and iterations.
        clusters: Numbers of clusters K.
        embedder: The model whose vectors they are.
        budget: Its ``memory_limit`` and ``gpu``.
        meter: Gets a step for each K.

    Returns:
        K to centroids, on all ranks.
    """
    settings = {"seed": task.seed, "iterations": task.protocol.kmeans_iterations, **budget}
    found = fit_several(vectors, clusters, spherical=is_spherical(embedder), **settings)
    fits, weights = {}, digest(embedder)
    for k in clusters:
        with meter.step(f"k-means {k}"):
            fits[k] = on_first_rank(lambda: next(found)).of_model(weights)
    return fits


def add_heads(config: Config, folder: Path, fits: dict[int, Centroids]) -> None:
    """Writes centroids into a folder, and a head for each into a config."""
    files = {k: str(folder / f"centroids_{k}.safetensors") for k in fits}
    for k, centroids in fits.items():
        centroids.save(files[k])
    config.model.decode_head = [
        {"type": "ClusterHead", "centroids": file} for file in files.values()
    ]
    config.test_evaluator.num_clusters = list(fits)


def _add_heads(
    config: Config, folder: Path, fits: dict[int, Centroids], spec: str, clusters: Sequence[int]
) -> None:
    """`add_heads`, or without anything fitted the head of the checkpoint's own classes."""
    if fits:
        return add_heads(config, folder, fits)
    config.model.decode_head = [{"type": "ClusterHead", "own": spec}]
    config.test_evaluator.num_clusters = list(clusters)


def _count_both(
    config: Config, task: Task, shared: SharedEmbedder, meter: StepMeter
) -> tuple[list[CountTable], CountMetric]:
    """Counts on the fitted split, if the greedy matching is asked for, and on the scored one."""
    fit_tables: list[CountTable] = []
    if needs_fit_labels(task.protocol.matchings):
        with meter.step("map the clusters"):
            fit_tables = _count(config, dataset_config(task, "fit"), shared, keep=False).tables
    config.test_evaluator.update(max_samples=task.max_maps, per_image=True)
    with meter.step("score"):
        return fit_tables, _count(config, dataset_config(task, "score"), shared)


def _count(
    config: Config, dataset: dict[str, Any], shared: SharedEmbedder, *, keep: bool = True
) -> CountMetric:
    config.test_dataloader.dataset = dataset
    return run(config, shared, train=False, keep=keep)


def _check_crf(task: Task, shared: SharedEmbedder) -> None:
    if task.protocol.crf == "none":
        return
    check_crf()
    if task.protocol.clusters != "kmeans" or not is_spherical(shared.embedder):
        raise UserError(
            "crf=dense refines cosines with unit centroids, and these clusters have none: take "
            "clusters=kmeans of an embedder whose directions count, or crf=none"
        )


def _numbers(clusters: Sequence[int] | None, task: Task) -> Sequence[int]:
    """Numbers of clusters; those of a checkpoint's own classes are known."""
    if task.protocol.clusters != "own":
        return DEFAULT_CLUSTERS if clusters is None else clusters
    number = len(own_concepts(task.spec))
    if clusters and list(clusters) != [number]:
        raise UserError(
            f"clusters {list(clusters)}: {task.spec} has {number} classes of its own; ask for "
            f"{number}, or for no number"
        )
    return (number,)


def check_numbers(clusters: Sequence[int]) -> None:
    """Raises a `UserError` unless there are one or more different numbers of clusters."""
    if not clusters or min(clusters) < 1 or len(set(clusters)) < len(clusters):
        raise UserError(
            f"clusters {list(clusters)}: give one or more different numbers, each at least 1"
        )


def check_clusters(clusters: Sequence[int], task: Task) -> None:
    """Raises a `UserError` for numbers of clusters or matchings that cannot be had."""
    check_numbers(clusters)
    protocol = task.protocol
    if protocol.clusters in CLUSTER_PACKAGES:
        check_packages(CLUSTER_PACKAGES[protocol.clusters])
    if not protocol.fit_labels and needs_fit_labels(protocol.matchings):
        name = next(name for name in protocol.matchings if name in ON_FIT)
        raise UserError(
            f"the {MATCHING_NAMES[name]} matching needs labels on {protocol.fit_split}: set "
            "matchings to hungarian alone"
        )
