"""The evaluations of a row, and the checkpoint that is chosen for them without labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vice.datasets import DATASETS, open_dataset
from vice.datasets.subsets import take_subset
from vice.files import replace_atomically
from vice.protocols import default_protocol, get_protocol
from vice.report.compare import readouts
from vice.reproduce.runs import Plan
from vice.reproduce.tables import Row, merge
from vice.selection import choose_checkpoint

#: Read-out to its scores, for example ``{"miou": 0.25, "accuracy": 0.6}``, shares in [0, 1].
Scores = dict[str, dict[str, float | None]]
CHOICE_NAME = "choice.json"


def arguments_of(row: Row, label: str, plan: Plan) -> dict[str, Any]:
    """Arguments of one evaluation of a row, at the plan's scale and on its data.

    Args:
        row: The row.
        label: A key of its ``evaluate``.
        plan: What the user asks for.

    Returns:
        ``kind`` and the arguments of that kind of evaluation.
    """
    said = row.evaluate[label]
    found = merge(said, plan.scale.evaluate.get(said["kind"], {}))
    # What makes the row different is not the scale's to change.
    found["changes"] = {**found.get("changes", {}), **said.get("changes", {})}
    for name in ("dataset", "fit_dataset"):
        if found.get(name):
            found[name] = plan.dataset(found[name])
    if not found["changes"]:
        del found["changes"]
    return found


def evaluate(row: Row, spec: str, seed: int, folder: Path, plan: Plan) -> Scores:
    """Takes all evaluations of a row; those that are done are read.

    Args:
        row: The row.
        spec: The embedder, as in `vice.extractors.load_extractor`.
        seed: Of the evaluations, and of the subset that is fine-tuned on.
        folder: Gets a folder an evaluation.
        plan: What the user asks for.

    Returns:
        The scores by read-out.

    Raises:
        UserError: An evaluation says what is wrong.
    """
    scores: Scores = {}
    for label in row.evaluate:
        arguments = arguments_of(row, label, plan)
        kind = arguments.pop("kind")
        text = json.dumps([spec, seed, arguments, plan.data_root], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        out = folder / f"{kind}-{digest}"
        done = out / "results.json"
        if done.is_file():
            result = json.loads(done.read_text(encoding="utf-8"))
        else:
            result = _evaluate(kind, spec, seed, out, plan, arguments)
        for name, found in readouts(result).items():
            column = name if kind == "clusters" else label
            scores[column] = {metric: found[metric] for metric in ("miou", "accuracy")}
    return scores


def _evaluate(
    kind: str, spec: str, seed: int, out: Path, plan: Plan, arguments: dict[str, Any]
) -> dict[str, Any]:
    # MMSegmentation takes seconds to import, and a list of the tables needs none of it.
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


def choose(row: Row, run_dir: Path, seed: int, plan: Plan) -> dict[str, Any]:
    """The checkpoint of a run that is chosen without labels; found once and then read.

    The images are those of the scored split of the data that was trained on, without their labels,
    or some of them.

    Args:
        row: The row.
        run_dir: A finished run.
        seed: Of views.
        plan: What the user asks for.

    Returns:
        What `vice.selection.Choice.to_dict` gives.
    """
    file = run_dir / CHOICE_NAME
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    device = plan.device or ("cuda" if torch.cuda.is_available() else "cpu")
    choice = choose_checkpoint(run_dir, _held_out(row, plan), seed, device=device).to_dict()
    text = json.dumps(choice, indent=1) + "\n"
    replace_atomically(file, lambda new: Path(new).write_text(text, encoding="utf-8"))
    return choice


def _held_out(row: Row, plan: Plan) -> list[Path]:
    name = plan.dataset(row.trained_on)
    known = name if name in DATASETS else "folder"
    split = get_protocol(default_protocol(known), known).score_split
    data = open_dataset(name, plan.data_root)
    names = data.names(split, labels=False)
    kept = take_subset(names, min(1.0, plan.scale.held_out / len(names)), 0)
    return [data.root / name for name in names if name in kept]
