"""Linear evaluation of a frozen embedder through MMSegmentation's runner."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from torch import Tensor

from vice.errors import UserError
from vice.evaluation.logistic import NEVER, LogisticFit, fit_logistic
from vice.evaluation.results import describe
from vice.evaluation.task import Task, make_task
from vice.plugins.mmseg.backbone import SharedEmbedder, share_embedder
from vice.plugins.mmseg.best_epoch import watch_epochs
from vice.plugins.mmseg.content import check_data
from vice.plugins.mmseg.dataset import CROPS
from vice.plugins.mmseg.holding import writes_results
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.pipelines import count_steps
from vice.plugins.mmseg.results import class_scores, finish, training_outcome
from vice.plugins.mmseg.running import (
    finish_config,
    load_config,
    process_state_kept,
    run,
    set_probe,
)
from vice.plugins.mmseg.sample_embeddings import sample_split
from vice.runtime.collectives import on_first_rank
from vice.runtime.step_meter import StepMeter


@writes_results
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

    Source: ViCE (BMVC) section 4.1; the protocol holds the schedule. With
    ``linear_optimizer="lbfgs"`` the probe is fitted to convergence instead, on a sample of
    labelled pixels.

    Args:
        spec: The embedder, as in `vice.models.load.load_extractor`.
        dataset: As in `vice.datasets.open_dataset`.
        out_dir: Gets ``results.json``, ``per_image.npz``, ``confusion.png``, ``samples.png``,
            ``maps/linear/<stem>.png`` and ``runner/`` (config, log, weights).
        cache_bytes: Budget for keeping embeddings, so that an image seen again costs nothing.
        **task_arguments: Further arguments of `vice.evaluation.task.make_task`: ``protocol``,
            ``changes``, ``data_root``, ``fit_dataset``, ``seed``, ``device`` and so on.

    Returns:
        What ``results.json`` holds; the scores, in [0, 1], are under ``"linear"``. Under
        ``"probe"`` stands how the fit ended: ``optimizer`` and ``iterations``, with steps the mean
        ``loss`` of the last ones, with lbfgs ``pixels``, ``l2``, ``converged``, ``gradient`` and
        ``objective`` (see `vice.evaluation.logistic.LogisticFit`). Under ``"absent"`` stand the
        classes without a pixel that was fitted on or scored. Of a probe that is trained by epochs,
        the scores are those after the last one, and under ``"linear_best"`` stand those after the
        ``epoch`` (from 1) that is best on the scored labels, which some papers report.

    Raises:
        UserError: No such embedder or protocol, something is wrong with the data set, or numbers
            that are not finite.
    """
    start, meter = time.monotonic(), StepMeter()
    task = make_task(spec, dataset, out_dir, **task_arguments)
    protocol = task.protocol
    if not protocol.fit_labels:
        raise UserError(
            f"{protocol.name} fits on {protocol.fit_split}, which has no labels, so there is no "
            "linear probe: change fit_split and fit_labels, or evaluate clusters"
        )
    sets, content = check_data(task, meter)
    shared = share_embedder(spec, task.seed, cache_bytes, task.protocol.features)
    config = load_config("linear_folder", task)
    images = len(sets[0].pairs(protocol.fit_split)) * CROPS[protocol.fit_crops]
    set_probe(config, task, shared.embedder.dim, len(sets[1].classes), images)
    watch_epochs(config, task, images)
    config.model.backbone.cache_bytes = cache_bytes
    config = finish_config(config, task)
    metric, probe, fitted = _run(config, task, shared, images, meter)

    def write() -> dict[str, Any]:
        result = {
            **describe("linear", task, sets, shared.describe()),
            "content": content,
            "probe": probe,
            **class_scores("linear", metric, task, sets[1].classes, fitted, meter),
        }
        return finish(result, task, {"cache_bytes": cache_bytes}, config, meter, start)

    return on_first_rank(write)


def _run(
    config: Config, task: Task, shared: SharedEmbedder, images: int, meter: StepMeter
) -> tuple[CountMetric, dict[str, Any], Tensor]:
    """The scores, how the probe was fitted, and on which classes, bool (C,)."""
    protocol, classes = task.protocol, config.model.decode_head.num_classes
    probe = {"optimizer": protocol.linear_optimizer, "iterations": protocol.linear_iterations}
    if protocol.linear_optimizer != "lbfgs":
        probe["iterations"], _ = count_steps(protocol, images)
    if protocol.linear_optimizer != "lbfgs":
        with meter.step("fit the probe and score it"):
            metric = run(config, shared, train=True)
        loss, fitted = training_outcome(metric, classes)
        return metric, {**probe, "loss": loss}, fitted
    with meter.step("sample pixels"):
        sample = sample_split(config, task, shared, protocol.linear_pixels, labelled=True)
    with meter.step("fit the probe"):
        fit = on_first_rank(lambda: fit_probe(sample, classes, task))
    weights = probe_weights(fit)
    with meter.step("score"):
        metric = run(config, shared, train=False, weights=weights)
    return metric, {**probe, "l2": protocol.linear_l2, **fit.describe()}, fit.bias != NEVER


def probe_weights(fit: LogisticFit) -> dict[str, Tensor]:
    """The parameters of a segmentor whose linear head is a fitted probe."""
    return {
        "decode_head.conv_seg.weight": fit.weight[:, :, None, None],
        "decode_head.conv_seg.bias": fit.bias,
    }


def fit_probe(sample: Tensor | None, num_classes: int, task: Task) -> LogisticFit:
    """Fits a probe to convergence, on the first rank.

    Args:
        sample: float32 (N, D + 1), the class of each pixel last.
        num_classes: Number of classes C.
        task: Gives penalty, iterations and device.
    """
    assert sample is not None  # The first rank holds it, and it alone fits.
    return fit_logistic(
        sample[:, :-1],
        sample[:, -1],
        num_classes,
        l2=task.protocol.linear_l2,
        iterations=task.protocol.linear_iterations,
        device=task.device or get_device(),
    )
