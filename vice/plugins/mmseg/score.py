"""All read-outs of an embedder on a data set, on one pass over each split where that can be."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vice.clustering import DEFAULT_MEMORY
from vice.errors import UserError
from vice.evaluation.matchings import needs_fit_labels
from vice.evaluation.protocol_effects import KIND_FIELDS
from vice.evaluation.protocols import Protocol
from vice.evaluation.results import describe
from vice.evaluation.task import Task, make_task
from vice.plugins.mmseg.backbone import share_embedder
from vice.plugins.mmseg.content import check_data
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.evaluate_retrieval import evaluate_retrieval
from vice.plugins.mmseg.one_pass import read_out
from vice.plugins.mmseg.readouts import ClusterReadout, LinearReadout, Readout
from vice.plugins.mmseg.results import finish
from vice.plugins.mmseg.running import names_full_disk, process_state_kept
from vice.plugins.mmseg.view_scores import measure_views
from vice.runtime.collectives import on_first_rank
from vice.runtime.step_meter import StepMeter

logger = logging.getLogger(__name__)
#: Most bytes of embeddings of the fitted split that are kept, unless said otherwise.
KEPT_MEMORY = 4 * 1024**3


@names_full_disk
@process_state_kept()
def score(
    spec: str,
    dataset: str | Path,
    out_dir: str | Path,
    *,
    protocols: Mapping[str, Protocol],
    clusters: Sequence[int] = (),
    label_free: bool = False,
    memory_limit: int = KEPT_MEMORY,
    cache_bytes: int = 0,
    **task_arguments: Any,
) -> dict[str, Any]:
    """Scores an embedder by several read-outs, which share the passes over the images.

    Clusters and a converged probe (``linear_optimizer="lbfgs"``) share one pass over each split if
    their protocols show them the same images. A probe that is trained by steps, a protocol that
    averages over mirror images beside a probe, and dense retrieval, which has an image size of its
    own, keep their own passes. Every number is that of the evaluation of its kind.

    Args:
        spec: The embedder, as in `vice.models.load.load_extractor`.
        dataset: As in `vice.datasets.open_dataset`.
        out_dir: Gets a results directory for each kind, named by it.
        protocols: Kind (``"linear"``, ``"clusters"``, ``"retrieval"``) to its protocol.
        clusters: Numbers of clusters K, where there are clusters.
        label_free: Whether views of scored images are compared, too, by the centroids of the
            first K; see `vice.plugins.mmseg.view_scores`. Out gets ``label_free.json``.
        memory_limit: Most bytes of embeddings and label maps of the fitted split that are kept.
        cache_bytes: Budget for keeping embeddings of what keeps passes of its own.
        **task_arguments: Further arguments of `vice.evaluation.task.make_task`.

    Returns:
        Kind to what its ``results.json`` holds; ``"label_free"`` to what ``label_free.json`` does.

    Raises:
        UserError: As the evaluation of each kind raises.
    """
    if not protocols:
        raise UserError("nothing to read out: ask for a linear probe, clusters or retrieval")
    if label_free and ("clusters" not in protocols or protocols["clusters"].clusters != "kmeans"):
        raise UserError("views are compared by k-means clusters: ask for them (clusters=kmeans)")
    out = Path(out_dir)
    tasks = {
        kind: make_task(spec, dataset, out / kind, protocol=protocol, **task_arguments)
        for kind, protocol in protocols.items()
    }
    shared = sharing(protocols)
    results: dict[str, dict[str, Any]] = {}
    if shared:
        results |= score_together({k: tasks[k] for k in shared}, clusters, memory_limit)
    own: dict[str, Callable[..., dict[str, Any]]] = {
        "linear": evaluate_linear,
        "clusters": partial(evaluate_clusters, clusters=clusters),
        "retrieval": evaluate_retrieval,
    }
    for kind, evaluate in own.items():
        if kind in tasks and kind not in results:
            logger.info("%s: on passes of its own", kind)
            arguments = {**task_arguments, "protocol": protocols[kind]}
            results[kind] = evaluate(
                spec, dataset, out / kind, cache_bytes=cache_bytes, **arguments
            )
    if label_free:
        results["label_free"] = measure_views(tasks["clusters"], clusters[0], out)
    return {kind: results[kind] for kind in (*protocols, "label_free") if kind in results}


def sharing(protocols: Mapping[str, Protocol]) -> list[str]:
    """Which read-outs can be fitted and scored on the same passes: ``"clusters"``, ``"linear"``.

    Args:
        protocols: Kind to its protocol.
    """
    clusters, linear = protocols.get("clusters"), protocols.get("linear")
    if any(protocol.crf != "none" for protocol in protocols.values()):
        return []  # A random field refines predictions with the images beside them.
    kinds = ["clusters"] if clusters is not None and clusters.clusters == "kmeans" else []
    if linear is None or linear.linear_optimizer != "lbfgs" or not linear.fit_labels:
        return kinds
    # Mirror average: a probe is fitted without it, clusters with it, and both are scored with it.
    alike = clusters is None or not kinds or _shown(clusters) == _shown(linear)
    return [*kinds, "linear"] if alike and not linear.flip_average else kinds


def _shown(protocol: Protocol) -> dict[str, Any]:
    """All fields that say which images are shown, and how."""
    return {k: v for k, v in dataclasses.asdict(protocol).items() if k not in KIND_FIELDS}


@process_state_kept()
def score_together(
    tasks: Mapping[str, Task], clusters: Sequence[int], memory_limit: int = KEPT_MEMORY
) -> dict[str, dict[str, Any]]:
    """Read-outs that share one pass over each split.

    Args:
        tasks: ``"clusters"``, ``"linear"`` or both, of the same embedder, images and seed, whose
            protocols agree (see `sharing`); each with its results directory.
        clusters: As in `score`.
        memory_limit: As in `score`.

    Returns:
        Kind to what its ``results.json`` holds.

    Raises:
        UserError: As the evaluation of each kind raises.
    """
    start, meter = time.monotonic(), StepMeter()
    task = next(iter(tasks.values()))
    fit_labels = "linear" in tasks or needs_fit_labels(task.protocol.matchings)
    sets, content = check_data(task, meter, fit_labels=fit_labels)
    shared = share_embedder(task.spec, task.seed, 0, task.protocol.features)
    readouts: list[Readout] = []
    if "clusters" in tasks:
        cluster_task = tasks["clusters"]
        readouts.append(ClusterReadout(cluster_task, shared, sets, clusters, DEFAULT_MEMORY))
    if "linear" in tasks:
        readouts.append(LinearReadout(tasks["linear"], shared, sets))
    passes = read_out(readouts, readouts[0].config, task, shared, sets, memory_limit, meter)

    def write() -> dict[str, dict[str, Any]]:
        written = {}
        for readout in readouts:
            result = {
                **describe(readout.kind, readout.task, sets, shared.describe()),
                "content": content,
                **readout.write(meter),
                "one_pass": passes,
            }
            written[readout.kind] = finish(
                result, readout.task, readout.arguments, readout.config, meter, start
            )
        return written

    return on_first_rank(write)
