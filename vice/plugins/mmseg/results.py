"""What an evaluation leaves behind: one JSON file with the scores and all that led to them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import Tensor

from vice.datasets.label_sets import partition
from vice.datasets.labelled_pixels import (
    absent_classes,
    warn_absent_classes,
    warn_single_class,
)
from vice.errors import UserError
from vice.evaluation.compare import BEST_NAME
from vice.evaluation.image_counts import ImageTables, save_image_tables
from vice.evaluation.intervals import score_intervals
from vice.evaluation.published_scores import published_scores
from vice.evaluation.replaced import tell_replaced
from vice.evaluation.results import plain, scores
from vice.evaluation.task import Task
from vice.plugins.mmseg.best_epoch import BestEpoch
from vice.plugins.mmseg.metric import CountMetric
from vice.runtime.files import write_json
from vice.runtime.result_folders import MAPS_NAME
from vice.runtime.run_folder import PER_IMAGE_NAME, RESULTS_NAME
from vice.runtime.step_meter import StepMeter
from vice.scoring import CountTable
from vice.scoring import Mapping as ClassMapping
from vice.visualize import colorize, contact_sheet, plot_confusion, save_png

logger = logging.getLogger(__name__)
#: Loss at which a fit counts as diverged although its numbers are finite; guessing is at ln C.
DIVERGED = 1e6


def finish(
    result: dict[str, Any],
    task: Task,
    arguments: dict[str, Any],
    config: Config,
    meter: StepMeter,
    start: float,
) -> dict[str, Any]:
    """Adds how it was done and writes ``results.json``.

    Args:
        result: Description and scores.
        task: What was scored on what.
        arguments: The other arguments of the evaluation.
        config: The resolved config.
        meter: What its steps took.
        start: `time.monotonic` at its beginning.

    Returns:
        What the file holds.
    """
    only = warn_single_class(
        result["classes"], result.get("absent") or {}, task.protocol.score_split
    )
    result = plain(
        {
            **result,
            **({} if only is None else {"only_class": only}),
            "steps": meter.steps,
            "seconds": round(time.monotonic() - start, 2),
            "arguments": {**task.arguments(), **arguments},
            "config": config.to_dict(),
        }
    )
    tell_replaced(task.out_dir, result)
    write_json(task.out_dir / RESULTS_NAME, result, allow_nan=False)
    for score in published_scores(result["kind"], task.protocol):
        logger.info("published under this protocol, in %%: %s", score)
    logger.info("results: %s", task.out_dir / RESULTS_NAME)
    return result


def class_scores(
    kind: str,
    metric: CountMetric,
    task: Task,
    classes: tuple[str, ...],
    fitted: Tensor,
    meter: StepMeter,
) -> dict[str, Any]:
    """The part of a result that a classifier's table gives, with maps and pictures written.

    Args:
        kind: Key of the scores, and name of the maps' folder.
        metric: Holds one table, clusters being classes.
        task: What was scored on what.
        classes: Class names.
        fitted: bool (C,), whether a class has a pixel that was fitted on.
        meter: Gets the step of the intervals.
    """
    table = metric.tables[0]
    identity, over = table.identity(), task.protocol.miou_over
    tables, best = {kind: metric.image_tables[0]}, metric.best_epoch
    if best is not None and best.images is not None:
        tables[BEST_NAME] = best.images
    mappings = {name: {name: identity} for name in tables}
    intervals = resample(task, tables, mappings, classes, meter)
    return {
        kind: {
            **scores(table, identity, classes, intervals[kind][kind], over=over),
            "fitted_on": task.protocol.fit_split,
        },
        **({} if best is None else {BEST_NAME: _best(best, task, classes, intervals)}),
        "absent": absent(task, classes, fitted, table),
        "confusion": table.confusion(identity).tolist(),
        **write_samples(metric, task, {kind: identity}, len(classes)),
        "pictures": [draw_confusion(table, identity, classes, task, "confusion")],
    }


def _best(
    best: BestEpoch, task: Task, classes: tuple[str, ...], intervals: dict[str, Any]
) -> dict[str, Any]:
    protocol, identity = task.protocol, best.table.identity()
    interval = intervals[BEST_NAME][BEST_NAME]
    return {
        **scores(best.table, identity, classes, interval, over=protocol.miou_over),
        "fitted_on": protocol.fit_split,
        "chosen_on": f"labels of {protocol.score_split}",
        "epoch": best.epoch,
        "epochs": best.epochs,
    }


def resample(
    task: Task,
    tables: Mapping[str, ImageTables],
    mappings: Mapping[str, Mapping[str, Tensor | str]],
    classes: tuple[str, ...],
    meter: StepMeter,
) -> dict[str, dict[str, Any]]:
    """Intervals of scores, with the counts of each image written to ``per_image.npz``.

    Args:
        task: Says where to.
        tables: Name to the counts of each image.
        mappings: Name of the tables to their mappings, see
            `vice.evaluation.intervals.resampled_scores`.
        classes: Class names.
        meter: Gets the step.

    Returns:
        Name of the tables to what `vice.evaluation.intervals.score_intervals` gives.
    """
    with meter.step("intervals"):
        save_image_tables(task.out_dir / PER_IMAGE_NAME, tables)
        parts = partition(classes)
        over = task.protocol.miou_over
        return {
            name: score_intervals(tables[name], mappings[name], parts, over=over) for name in tables
        }


def training_outcome(metric: CountMetric, num_classes: int) -> tuple[float, Tensor]:
    """How a training by steps has ended; a loss above that of guessing is told in the log.

    Args:
        metric: Of a run that has trained.
        num_classes: Number of classes C.

    Returns:
        Its mean loss over the last steps, and on which classes it was trained, bool (C,).

    Raises:
        UserError: No labelled pixel was trained on, or the loss is beyond all bounds.
    """
    training = metric.training
    assert training is not None  # The configs' hook is there, and its run has trained.
    fitted = training.seen[:num_classes]
    if not fitted.any():
        raise UserError(
            "no labelled pixel was fitted on: all are ignored, or outside the crop of the protocol"
        )
    if training.loss > DIVERGED:
        raise UserError(
            f"the loss has ended at {training.loss:.3g}: what is fitted has diverged, lower "
            "linear_lr (or the embedding has too large numbers)"
        )
    if training.loss > math.log(num_classes) + 1e-3:
        logger.warning(
            "the loss has ended at %.3g, above that of guessing (ln %d = %.3g): what is fitted "
            "may have diverged; lower linear_lr, or give it more iterations",
            training.loss, num_classes, math.log(num_classes),
        )  # fmt: skip
    return training.loss, fitted


def absent(
    task: Task, classes: tuple[str, ...], fitted: Tensor | None, table: CountTable
) -> dict[str, list[str] | None]:
    """Classes without a pixel in what was fitted on or scored; they are also named in the log.

    Args:
        task: What was scored on what.
        classes: Class names.
        fitted: bool (C,), whether a class has a pixel that was fitted on; None: without labels.
        table: Counts of the scored split.

    Returns:
        ``"fit"`` (None where no labels were used) and ``"score"``.
    """
    names = absent_classes(classes, {"fit": fitted, "score": table.counts.sum(0) > 0})
    warn_absent_classes(names, {"fit": task.protocol.fit_split, "score": task.protocol.score_split})
    return names


def draw_confusion(
    table: CountTable, mapping: ClassMapping, classes: tuple[str, ...], task: Task, name: str
) -> str:
    """Draws ``<name>.png`` into the results directory and returns its name."""
    matrix = table.confusion(mapping).numpy()
    title = f"{task.spec}\n{name.replace('_', ' ')}, {task.protocol.title()}"
    return plot_confusion(matrix, classes, task.out_dir / f"{name}.png", title).name


def write_samples(
    metric: CountMetric, task: Task, mappings: Mapping[str, Tensor], num_classes: int
) -> dict[str, Any]:
    """Writes ``maps/<name>/<stem>.png`` (class indices) and ``samples.png`` (beside the truth).

    Args:
        metric: Holds the samples.
        task: Says where to.
        mappings: For each set of predictions its name and the class of each cluster.
        num_classes: Number of classes.

    Returns:
        ``maps`` and ``samples``, relative to the results directory.
    """
    rows, written = [], []
    for sample in metric.samples:
        maps = {
            name: mapping.numpy().astype(np.uint8)[prediction]
            for (name, mapping), prediction in zip(
                mappings.items(), sample.predictions, strict=True
            )
        }
        for name, classes in maps.items():
            path = task.out_dir / MAPS_NAME / name / f"{sample.name}.png"
            save_png(classes, path)
            written.append(path.relative_to(task.out_dir).as_posix())
        shown = [colorize(classes, num_classes) for classes in (sample.label, *maps.values())]
        rows.append([sample.image, *shown])
    if not rows:
        return {"maps": [], "samples": None}
    titles = ["image", "truth", *(name.replace("_", " ") for name in mappings)]
    sheet = contact_sheet(rows, titles, height=180)
    path = save_png(sheet, task.out_dir / "samples.png")
    return {"maps": written, "samples": path.name}
