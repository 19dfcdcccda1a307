"""What an evaluation leaves behind: one JSON file with the scores and all that led to them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.config import Config

from vice.checkpoint import replace_atomically
from vice.datasets.labelled_folder import LabelledFolder
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.running import Task
from vice.provenance import versions
from vice.scoring import CountTable, Mapping


def scores(table: CountTable, mapping: Mapping, classes: tuple[str, ...]) -> dict[str, Any]:
    """Scores of a table under a mapping.

    Returns:
        ``miou``, ``accuracy`` and ``iou_per_class`` in [0, 1]; None for a class that is neither
        in the labels nor predicted.
    """
    iou = table.iou_per_class(mapping).tolist()
    return {
        "miou": _number(table.miou(mapping)),
        "accuracy": _number(table.accuracy(mapping)),
        "iou_per_class": {c: _number(value) for c, value in zip(classes, iou, strict=True)},
    }


def describe(
    kind: str, task: Task, folder: LabelledFolder, arguments: dict[str, Any], config: Config
) -> dict[str, Any]:
    """The part of a result that says what was done.

    Args:
        kind: ``"linear"`` or ``"clusters"``.
        task: What was scored on what.
        folder: Its data set.
        arguments: The other arguments of the evaluation.
        config: The resolved config.

    Returns:
        A dict that JSON can hold.
    """
    splits = {"fit": task.split_fit, "score": task.split_score}
    return {
        "kind": kind,
        "unit": "share",
        "spec": task.spec,
        "seed": task.seed,
        "classes": list(folder.classes),
        "dataset": {
            "name": Path(task.dataset_root).resolve().name,
            "root": str(task.dataset_root),
            "splits": splits,
            "images": {key: len(folder.pairs(split)) for key, split in splits.items()},
        },
        "arguments": plain({**asdict(task), **arguments}),
        "versions": versions(),
        "config": plain(config.to_dict()),
    }


def map_files(metric: CountMetric, task: Task) -> list[str]:
    """Written maps, relative to the results directory."""
    return [path.relative_to(task.out_dir).as_posix() for path in metric.maps]


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file in one step, so that a killed run leaves no half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    replace_atomically(path, lambda new: Path(new).write_text(text, encoding="utf-8"))


def plain(value: Any) -> Any:
    """A copy of nested containers that JSON can hold: paths become text, tuples lists."""
    return json.loads(json.dumps(value, default=str))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
