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
from vice.evaluation.protocol_effects import KIND_FIELDS, KINDS
from vice.evaluation.protocols import Protocol
from vice.evaluation.replaced import tell_beside
from vice.evaluation.results import describe
from vice.evaluation.task import Task, make_task
from vice.parts import check_packages
from vice.plugins.mmseg.backbone import share_embedder
from vice.plugins.mmseg.cluster_readout import ClusterReadout
from vice.plugins.mmseg.content import check_data
from vice.plugins.mmseg.evaluate_clusters import check_numbers, evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.evaluate_position import evaluate_position
from vice.plugins.mmseg.evaluate_retrieval import evaluate_retrieval
from vice.plugins.mmseg.holding import hold, writes_results
from vice.plugins.mmseg.linear_readout import LinearReadout
from vice.plugins.mmseg.one_pass import read_out
from vice.plugins.mmseg.outlines import OWN, check_outlines, score_outlines
from vice.plugins.mmseg.position_readout import PositionReadout
from vice.plugins.mmseg.readouts import Readout
from vice.plugins.mmseg.results import finish
from vice.plugins.mmseg.retrieval_readout import RetrievalReadout
from vice.plugins.mmseg.running import process_state_kept
from vice.plugins.mmseg.view_scores import measure_views, remove_views
from vice.runtime.collectives import on_first_rank
from vice.runtime.own_folder import keep_others_from_read_outs
from vice.runtime.result_folders import BOUNDARIES_NAME
from vice.runtime.step_meter import StepMeter

logger = logging.getLogger(__name__)
#: Read-out to how it can share the passes of the others.
_HINTS = {"linear": "; fitted to convergence (linear_optimizer=lbfgs) it shares those of others"}
#: Most bytes of embeddings of the fitted split that are kept, unless said otherwise.
KEPT_MEMORY = 4 * 1024**3


@writes_results
@process_state_kept()
def score(
    spec: str,
    dataset: str | Path,
    out_dir: str | Path,
    *,
    protocols: Mapping[str, Protocol],
    clusters: Sequence[int] = (),
    position_clusters: Sequence[int] = (),
    boundaries: str | Path | None = None,
    label_free: bool = False,
    memory_limit: int = KEPT_MEMORY,
    cache_bytes: int = 0,
    **task_arguments: Any,
) -> dict[str, Any]:
    """Scores an embedder by several read-outs, which share the passes over the images.

    Clusters, a converged probe (``linear_optimizer="lbfgs"``), the positional bias and dense
    retrieval share one pass over each split if their protocols show them the same images. A probe
    that is trained by steps, a protocol that averages over mirror images beside a probe, and
    retrieval at an image size of its own keep their own passes, and the log says so. Every number
    is that of the evaluation of its kind.

    Args:
        spec: The embedder, as in `vice.models.load.load_extractor`.
        dataset: As in `vice.datasets.open_dataset`.
        out_dir: Gets a results directory for each kind, named by it.
        protocols: Kind (``"linear"``, ``"clusters"``, ``"retrieval"``, ``"position"``) to its
            protocol.
        clusters: Numbers of clusters K, where there are clusters; of ``clusters="own"`` none.
        position_clusters: Numbers of clusters that are scored with and without position.
        boundaries: Folder of images with people's outlines (see
            `vice.evaluation.evaluate_boundaries`); those of the clusters' segments are scored, or
            without clusters of the checkpoint's own concepts. Each image is embedded once.
        label_free: Whether views of scored images are compared, too, by the centroids of the
            first K; see `vice.plugins.mmseg.view_scores`. Out gets ``label_free.json``.
        memory_limit: Most bytes of embeddings and label maps of the fitted split that are kept.
        cache_bytes: Budget for keeping embeddings of what keeps passes of its own.
        **task_arguments: Further arguments of `vice.evaluation.task.make_task`.

    Returns:
        Kind to what its ``results.json`` holds; ``"label_free"`` to what ``label_free.json`` does;
        ``"boundaries"``: number of clusters, or ``"own"``, to what its ``results.json`` holds.

    Raises:
        UserError: As the evaluation of each kind raises.
    """
    if not protocols and boundaries is None:
        raise UserError(
            "nothing to read out: ask for a linear probe, clusters, retrieval, position or outlines"
        )
    if label_free and ("clusters" not in protocols or protocols["clusters"].clusters != "kmeans"):
        raise UserError("views are compared by k-means clusters: ask for them (clusters=kmeans)")
    if clusters or ("clusters" in protocols and protocols["clusters"].clusters != "own"):
        check_numbers(clusters)
    if clusters and protocols.get("clusters") and protocols["clusters"].clusters == "kmeans":
        check_packages("faiss")
    if position_clusters:
        check_numbers(position_clusters)
        check_packages("faiss")
    out = Path(out_dir)
    if boundaries is not None:
        check_outlines(boundaries, protocols.get("clusters"))
    keep_others_from_read_outs(out, (*KINDS, "position"))
    named = (*protocols, *([BOUNDARIES_NAME] if boundaries is not None else []))
    on_first_rank(lambda: tell_beside(out, named, spec, str(dataset)))
    tasks = {
        kind: make_task(spec, dataset, out / kind, protocol=protocol, **task_arguments)
        for kind, protocol in protocols.items()
    }
    shared = sharing(protocols)
    results: dict[str, dict[str, Any]] = {}
    if shared:
        together = {kind: tasks[kind] for kind in shared}
        results |= score_together(together, clusters, memory_limit, position_clusters)
    own: dict[str, Callable[..., dict[str, Any]]] = {
        "linear": evaluate_linear,
        "clusters": partial(evaluate_clusters, clusters=clusters),
        "retrieval": evaluate_retrieval,
        "position": partial(evaluate_position, clusters=position_clusters),
    }
    for kind, evaluate in own.items():
        if kind in tasks and kind not in results:
            logger.info("%s: on passes of its own%s", kind, _HINTS.get(kind, ""))
            arguments = {**task_arguments, "protocol": protocols[kind]}
            if kind != "position":
                arguments["cache_bytes"] = cache_bytes
            results[kind] = evaluate(spec, dataset, out / kind, **arguments)
    if label_free:
        results["label_free"] = measure_views(tasks["clusters"], clusters[0], out)
    elif "clusters" in protocols:
        on_first_rank(lambda: remove_views(out, spec, str(dataset)))
    if boundaries is not None:
        task = tasks.get("clusters")
        if task is None:
            task = make_task(spec, dataset, out / BOUNDARIES_NAME / OWN, **task_arguments)
        fitted = "clusters" in tasks and protocols["clusters"].clusters != "own"
        numbers = clusters if fitted else ()
        results["boundaries"] = score_outlines(task, boundaries, numbers, out / BOUNDARIES_NAME)
    return {k: results[k] for k in (*protocols, "label_free", "boundaries") if k in results}


def sharing(protocols: Mapping[str, Protocol]) -> list[str]:
    """Which read-outs can be fitted and scored on the same passes.

    Args:
        protocols: Kind to its protocol.
    """
    clusters = protocols.get("clusters")
    if any(protocol.crf != "none" for protocol in protocols.values()):
        return []  # A random field refines predictions with the images beside them.
    kinds = ["clusters"] if clusters is not None and clusters.clusters == "kmeans" else []
    for kind in ("linear", "position", "retrieval"):
        protocol = protocols.get(kind)
        if protocol is None or not _can_share(kind, protocol):
            continue
        if not kinds or _shown(protocols[kinds[0]]) == _shown(protocol):
            kinds.append(kind)
    # Alone, retrieval gains nothing.
    return [] if kinds == ["retrieval"] else kinds


def _can_share(kind: str, protocol: Protocol) -> bool:
    if kind == "retrieval":
        return protocol.fit_labels
    # Mirror average: a probe is fitted without it, clusters with it, and both are scored with it.
    converged = protocol.linear_optimizer == "lbfgs"
    return protocol.fit_labels and converged and not protocol.flip_average


def _shown(protocol: Protocol) -> dict[str, Any]:
    """All fields that say which images are shown, and how."""
    return {k: v for k, v in dataclasses.asdict(protocol).items() if k not in KIND_FIELDS}


@process_state_kept()
def score_together(
    tasks: Mapping[str, Task],
    clusters: Sequence[int],
    memory_limit: int = KEPT_MEMORY,
    position_clusters: Sequence[int] = (),
) -> dict[str, dict[str, Any]]:
    """Read-outs that share one pass over each split.

    Args:
        tasks: Those of `sharing`, of the same embedder, images and seed, whose protocols agree;
            each with its results directory.
        clusters: As in `score`.
        memory_limit: As in `score`.
        position_clusters: As in `score`.

    Returns:
        Kind to what its ``results.json`` holds.

    Raises:
        UserError: As the evaluation of each kind raises.
    """
    start, meter = time.monotonic(), StepMeter()
    task = next(iter(tasks.values()))
    fit_labels = tasks.keys() != {"clusters"} or needs_fit_labels(task.protocol.matchings)
    sets, content = check_data(task, meter, fit_labels=fit_labels)
    for other in tasks.values():
        hold(other)
    shared = share_embedder(task.spec, task.seed, 0, task.protocol.features)
    readouts: list[Readout] = []
    if "clusters" in tasks:
        cluster_task = tasks["clusters"]
        readouts.append(ClusterReadout(cluster_task, shared, sets, clusters, DEFAULT_MEMORY))
    if "linear" in tasks:
        readouts.append(LinearReadout(tasks["linear"], shared, sets))
    if "position" in tasks:
        readouts.append(PositionReadout(tasks["position"], shared, sets, position_clusters))
    if "retrieval" in tasks:
        readouts.append(RetrievalReadout(tasks["retrieval"], shared, sets))
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
