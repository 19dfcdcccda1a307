"""The evaluations of a row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from vice.datasets import open_dataset
from vice.errors import UserError
from vice.evaluation.compare import BEST_READOUT, readouts
from vice.evaluation.protocol_effects import KINDS, without_effect
from vice.evaluation.task import Task, make_task, resolve_protocol
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.tables import Experiment, merge
from vice.runtime.files import disk_errors, read_json
from vice.runtime.run_folder import RESULTS_NAME

#: Stands for as many clusters as the data set has classes.
CLASSES = "classes"
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


def settings_of(row: Experiment, label: str, plan: ReproducePlan) -> dict[str, Any]:
    """What an evaluation of a row is really taken with, to be told.

    Args:
        row: The row.
        label: A key of its ``evaluate``.
        plan: What the user asks for.

    Returns:
        The arguments that `evaluate` asks for, changes of the protocol among them, without those
        that have no effect.
    """
    arguments = arguments_of(row, label, plan)
    kind, changes = arguments.pop("kind"), arguments.pop("changes", {})
    settings = {name: value for name, value in arguments.items() if name not in _NO_EFFECT}
    vain: Collection[str] = ()
    if kind in KINDS and "dataset" in arguments:
        # What does not go together is refused where it is evaluated.
        with suppress(UserError):
            named, data = arguments.get("protocol"), arguments["dataset"]
            protocol = resolve_protocol(named, data, changes)
            settings["protocol"], vain = protocol.name, without_effect(kind, protocol)
    return {**settings, **{name: value for name, value in changes.items() if name not in vain}}


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
    asked = [_asked(row, label, spec, seed, folder, plan) for label in row.evaluate]
    if not plan.only_done:
        _share_passes([each for each in asked if not each.done], spec, seed, plan)
    for label, kind, arguments, out in asked:
        done = out / RESULTS_NAME
        if done.is_file():
            result = read_json(done, "delete it to evaluate again")
        else:
            plan.require(out)
            result = _evaluate(kind, spec, seed, out, plan, arguments)
        for name, figures in readouts(result).items():
            column = _column(kind, label, name)
            scores[column] = {metric: figures[metric] for metric in ("miou", "accuracy")}
            if iou := figures.get("iou_per_class"):
                counted = sum(value is not None for value in iou.values())
                scores[column] |= {"classes_in_mean": counted, "classes": len(iou)}
    return scores


def result_folders(
    row: Experiment, spec: str, seed: int, folder: Path, plan: ReproducePlan
) -> list[Path]:
    """Results directories of a row, as `evaluate` fills them."""
    return [_asked(row, label, spec, seed, folder, plan).out for label in row.evaluate]


def _column(kind: str, label: str, readout: str) -> str:
    """What a score stands under: evaluations of one kind are told apart by their label."""
    if readout == BEST_READOUT:
        return f"{label}, best epoch"
    if kind not in ("clusters", "retrieval"):
        return label
    return readout if label == kind else f"{label} {readout}"


class _Asked(NamedTuple):
    """One evaluation of a row: its label, kind, arguments and results directory."""

    label: str
    kind: str
    arguments: dict[str, Any]
    out: Path

    @property
    def done(self) -> bool:
        return (self.out / RESULTS_NAME).is_file()


def _asked(
    row: Experiment, label: str, spec: str, seed: int, folder: Path, plan: ReproducePlan
) -> _Asked:
    arguments = arguments_of(row, label, plan)
    kind = arguments.pop("kind")
    if CLASSES in arguments.get("clusters", ()):
        classes = len(open_dataset(arguments["dataset"], plan.data_root).classes)
        numbers = [classes if each == CLASSES else each for each in arguments["clusters"]]
        arguments["clusters"] = sorted(set(numbers))
    text = json.dumps([spec, seed, arguments, plan.data_root], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return _Asked(label, kind, arguments, folder / f"{kind}-{digest}")


def _share_passes(asked: list[_Asked], spec: str, seed: int, plan: ReproducePlan) -> None:
    """Scores clusters together with a converged probe and retrieval of the same images.

    All others are left to be scored for themselves.
    """
    for clusters in (each for each in asked if each.kind == "clusters"):
        group, numbers = _sharing(clusters, asked, spec, seed, plan)
        if len(group) > 1:
            from vice.plugins.mmseg.score import score_together

            with disk_errors(clusters.out.parent):
                score_together(group, numbers)


def _sharing(
    clusters: _Asked, asked: list[_Asked], spec: str, seed: int, plan: ReproducePlan
) -> tuple[dict[str, Task], Sequence[int]]:
    """Tasks that can share passes with those of clusters, by kind, and the numbers of clusters."""
    from vice.plugins.mmseg.score import sharing

    numbers = clusters.arguments.get("clusters", (27,))
    first = _task(clusters, spec, seed, plan)
    if first is None:
        return {}, numbers
    group = {"clusters": first}
    for each in asked:
        task = None if each.done or each.kind in group else _task(each, spec, seed, plan)
        if task is None or each.kind not in ("linear", "retrieval"):
            continue
        same = (task.dataset, task.fit_dataset) == (first.dataset, first.fit_dataset)
        protocols = {kind: known.protocol for kind, known in {**group, each.kind: task}.items()}
        if same and each.kind in sharing(protocols):
            group[each.kind] = task
    return group, numbers


def _task(asked: _Asked, spec: str, seed: int, plan: ReproducePlan) -> Task | None:
    """What an evaluation comes to; None for one that needs more than a task says."""
    arguments = {k: v for k, v in asked.arguments.items() if k not in _OF_CLUSTERS}
    if not arguments.keys() <= _OF_TASK:
        return None
    common: dict[str, Any] = {"device": plan.device, "data_root": plan.data_root}
    return make_task(spec, out_dir=asked.out, seed=seed, log_level="ERROR", **arguments, **common)


#: What is kept in memory changes no number.
_NO_EFFECT = {"cache_bytes"}
#: Arguments of clusters alone.
_OF_CLUSTERS = {"clusters", *_NO_EFFECT}
#: Arguments of a task; an evaluation that is given others keeps passes of its own.
_OF_TASK = {
    "dataset", "fit_dataset", "protocol", "changes", "seed", "device", "data_root", "log_level"
}  # fmt: skip


def _evaluate(
    kind: str, spec: str, seed: int, out: Path, plan: ReproducePlan, arguments: dict[str, Any]
) -> dict[str, Any]:
    # Lazy import: MMSegmentation takes seconds, and a list of the tables needs none of it.
    from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
    from vice.plugins.mmseg.evaluate_linear import evaluate_linear
    from vice.plugins.mmseg.evaluate_retrieval import evaluate_retrieval
    from vice.plugins.mmseg.finetune import finetune

    evaluations: dict[str, Callable[..., dict[str, Any]]] = {
        "linear": evaluate_linear,
        "clusters": evaluate_clusters,
        "retrieval": evaluate_retrieval,
        "finetune": finetune,
    }
    common: dict[str, Any] = {"device": plan.device, "data_root": plan.data_root}
    if kind == "finetune":
        arguments["subset_seed"] = seed
    return evaluations[kind](spec, out_dir=out, seed=seed, log_level="ERROR", **common, **arguments)
