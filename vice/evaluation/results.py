"""Schema of results.json."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from vice.datasets import LabelledSet
from vice.datasets.label_sets import partition
from vice.datasets.labelled_set import list_checksum
from vice.evaluation.published_scores import describe_published
from vice.evaluation.task import Task
from vice.runtime.collectives import world_size
from vice.runtime.provenance import versions
from vice.scoring import CountTable
from vice.scoring import Mapping as ClassMapping


def scores(
    table: CountTable,
    mapping: ClassMapping,
    classes: tuple[str, ...],
    interval: dict[str, Any] | None = None,
    *,
    over: str = "present",
) -> dict[str, Any]:
    """Scores of a table under a mapping.

    Args:
        table: The counts.
        mapping: Class of each cluster, (K,).
        classes: Class names.
        interval: Of the scores, see `vice.evaluation.intervals.score_intervals`.
        over: Classes that ``miou`` is the mean of, ``"present"`` (in the labels or predicted) or
            ``"all"``, of which one that never occurs counts 0.

    Returns:
        ``miou``, ``accuracy`` and ``iou_per_class`` in [0, 1]; None for a class that is neither
        in the labels nor predicted. ``classes_in_mean``: how many classes ``miou`` is the mean of.
        ``interval``: as it was given, without its parts. Where the classes have parts (see
        `vice.datasets.label_sets.partition`), ``parts``: the same of each, under the mapping of the
        whole (see `CountTable.restricted`), and ``share_within``.
    """
    whole = dict(interval) if interval else None
    intervals = whole.pop("parts", {}) if whole else {}
    found = {**_scores(table, mapping, classes, over), "interval": whole}
    parts = {
        name: {
            **_part_scores(table, mapping, classes, indices, over),
            "interval": intervals.get(name),
        }
        for name, indices in partition(classes).items()
    }
    return {**found, "parts": parts} if parts else found


def _part_scores(
    table: CountTable,
    mapping: ClassMapping,
    classes: tuple[str, ...],
    indices: tuple[int, ...],
    over: str,
) -> dict[str, Any]:
    part = table.restricted(mapping, indices)
    found = _scores(part, part.identity(), tuple(classes[index] for index in indices), over)
    return {**found, "share_within": _number(table.share_within(mapping, indices))}


def _scores(
    table: CountTable, mapping: ClassMapping, classes: tuple[str, ...], over: str
) -> dict[str, Any]:
    iou = table.iou_per_class(mapping)
    if over == "all":
        iou = iou.nan_to_num(0)
    return {
        "miou": _number(float(iou.nanmean())),
        "accuracy": _number(table.accuracy(mapping)),
        "classes_in_mean": int((~iou.isnan()).sum()),
        "iou_per_class": {
            c: _number(value) for c, value in zip(classes, iou.tolist(), strict=True)
        },
    }


def mean_scores(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over several results of one kind, such as those of several seeds.

    Args:
        found: What `scores` returns, at least one.

    Returns:
        The same keys without parts; a class is None where it is so in all.
    """
    classes = {
        name: _mean([each["iou_per_class"][name] for each in found])
        for name in found[0]["iou_per_class"]
    }
    return {
        **{name: _mean([each[name] for each in found]) for name in ("miou", "accuracy")},
        "classes_in_mean": sum(value is not None for value in classes.values()),
        "iou_per_class": classes,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


def describe(
    kind: str, task: Task, sets: tuple[LabelledSet, LabelledSet], model: dict[str, Any]
) -> dict[str, Any]:
    """The part of a result that says what was done.

    Args:
        kind: A key of `vice.evaluation.protocol_effects.KINDS`.
        task: What was scored on what.
        sets: Data sets that were fitted on and scored.
        model: What is known of the embedder: digest, width and so on.

    Returns:
        A dict that JSON can hold.
    """
    fit, score = sets
    protocol = task.protocol
    splits = {"fit": protocol.fit_split, "score": protocol.score_split}
    labels = {"fit": protocol.fit_labels, "score": True}
    of = {"fit": fit, "score": score}
    names = {k: of[k].names(split, labels=labels[k]) for k, split in splits.items()}
    unused = task.unused_splits(score)
    return {
        "kind": kind,
        "unit": "share",
        "spec": task.spec,
        "seed": task.seed,
        "ranks": world_size(),
        "classes": list(score.classes),
        "protocol": {
            "name": protocol.name,
            "hash": protocol.hash,
            "title": protocol.title(),
            "changed": protocol.changed(),
            "fields": dataclasses.asdict(protocol),
        },
        "published": describe_published(kind, protocol),
        "dataset": {
            "name": score.name,
            "fit_name": fit.name,
            "root": str(score.root),
            "label_set": score.label_set.name if score.label_set else None,
            **({"description": score.digest} if score.digest else {}),
            "splits": splits,
            **({"unused_splits": unused} if unused else {}),
            "images": {k: len(listed) for k, listed in names.items()},
            "list_checksums": {k: list_checksum(listed) for k, listed in names.items()},
            **_resized(of, splits, labels),
            "found": {
                k: [content.to_dict() for content in of[k].contents(split, labels=labels[k])]
                for k, split in splits.items()
            },
        },
        "model": model,
        "versions": versions(),
    }


def _resized(
    of: dict[str, LabelledSet], splits: dict[str, str], labels: dict[str, bool]
) -> dict[str, Any]:
    """How many label maps were resized to their image, of data sets where that happens."""
    counts = {
        role: data.count_resized(data.pairs(splits[role]), f"counting {data.name} {splits[role]}")
        for role, data in of.items()
        if data.resizes_labels and labels[role]
    }
    return {"resized_labels": counts} if counts else {}


def plain(value: Any) -> Any:
    """A copy of nested containers that JSON can hold: paths become text, tuples lists."""
    return json.loads(json.dumps(value, default=str))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
