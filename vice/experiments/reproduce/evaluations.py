"""The evaluations of a row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vice.evaluation.compare import readouts
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.tables import Experiment, merge
from vice.runtime.files import read_json
from vice.runtime.run_folder import RESULTS_NAME

#: Read-out to its scores, for example ``{"miou": 0.25, "accuracy": 0.6}``, shares in [0, 1]; where
#: it is known with ``classes_in_mean`` of how many ``classes`` the mIoU is a mean.
Scores = dict[str, dict[str, float | None]]


def arguments_of(row: Experiment, label: str, plan: ReproducePlan) -> dict[str, Any]:
    """Arguments of one evaluation of a row, at the plan's scale and on its data.

    Args:
        row: The row.
        label: A key of its ``evaluate``.
        plan: What the user asks for.

    Returns:
        ``kind`` and the arguments of that kind of evaluation.
    """
    said = row.evaluate[label]
    arguments = merge(said, plan.scale.evaluate.get(said["kind"], {}))
    # Precedence: what makes the row different is not the scale's to change.
    arguments["changes"] = {**arguments.get("changes", {}), **said.get("changes", {})}
    for name in ("dataset", "fit_dataset"):
        if arguments.get(name):
            arguments[name] = plan.dataset(arguments[name])
    if not arguments["changes"]:
        del arguments["changes"]
    return arguments


def evaluate(row: Experiment, spec: str, seed: int, folder: Path, plan: ReproducePlan) -> Scores:
    """Takes all evaluations of a row; those that are done are read.

    Args:
        row: The row.
        spec: The embedder, as in `vice.models.load.load_extractor`.
        seed: Of the evaluations, and of the subset that is fine-tuned on.
        folder: Gets a folder an evaluation.
        plan: What the user asks for.

    Returns:
        The scores by read-out.

    Raises:
        UserError: An evaluation says what is wrong.
        NotDone: As `ReproducePlan.require`.
    """
    scores: Scores = {}
    for label in row.evaluate:
        arguments = arguments_of(row, label, plan)
        kind = arguments.pop("kind")
        text = json.dumps([spec, seed, arguments, plan.data_root], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        out = folder / f"{kind}-{digest}"
        done = out / RESULTS_NAME
        if done.is_file():
            result = read_json(done, "delete it to evaluate again")
        else:
            plan.require(out)
            result = _evaluate(kind, spec, seed, out, plan, arguments)
        for name, figures in readouts(result).items():
            column = name if kind == "clusters" else label
            scores[column] = {metric: figures[metric] for metric in ("miou", "accuracy")}
            if iou := figures.get("iou_per_class"):
                counted = sum(value is not None for value in iou.values())
                scores[column] |= {"classes_in_mean": counted, "classes": len(iou)}
    return scores


def _evaluate(
    kind: str, spec: str, seed: int, out: Path, plan: ReproducePlan, arguments: dict[str, Any]
) -> dict[str, Any]:
    # Lazy import: MMSegmentation takes seconds, and a list of the tables needs none of it.
    from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
    from vice.plugins.mmseg.evaluate_linear import evaluate_linear
    from vice.plugins.mmseg.finetune import finetune

    evaluations: dict[str, Callable[..., dict[str, Any]]] = {
        "linear": evaluate_linear,
        "clusters": evaluate_clusters,
        "finetune": finetune,
    }
    common: dict[str, Any] = {"device": plan.device, "data_root": plan.data_root}
    if kind == "finetune":
        arguments["subset_seed"] = seed
    return evaluations[kind](spec, out_dir=out, seed=seed, log_level="ERROR", **common, **arguments)
