"""The scores of a report: a verdict in words, the table, and the table by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]

MODEL_NAMES = {
    "trained": "ViCE, trained",
    "random": "same network, random weights",
    "lab": "Lab colour, no network",
}
SHORT_NAMES = {"trained": "trained", "random": "random weights", "lab": "Lab colour"}
READOUT_NAMES = {"linear": "linear probe", "clusters": "clusters"}
EXPLANATIONS = (
    ("mIoU", "For each class: pixels that are both predicted and true, divided by pixels that are "
     "either. The mean over classes, so a rare class counts as much as a frequent one. Higher is "
     "better."),
    ("accuracy", "The share of pixels that got the right class. Frequent classes dominate it."),
    ("linear probe", "One linear layer is fitted to the frozen embeddings with the labels of the "
     "train images. It tells whether the classes can be read off the embedding at all."),
    ("clusters", "The embeddings of the train images are clustered without any label; labels only "
     "give each cluster its name. It tells whether the classes fall out by themselves."),
    ("same network, random weights", "The same architecture, never trained: what the shape of a "
     "convolutional network gives for free. What training added is the difference to this row."),
    ("Lab colour, no network", "The same two read-outs on the colour of each single pixel: the "
     "floor. A model at this level has learnt nothing but colour."),
)  # fmt: skip


def percent(value: Any) -> str:
    """Formats a share in [0, 1] as percent with one decimal; a dash where there is none."""
    if not _is_number(value):
        return "-"
    return f"{100 * float(value):.1f}"


def verdict(scores: Scores) -> list[tuple[bool, str]]:
    """Says for each read-out how the trained model compares with the others.

    Returns:
        For each read-out, whether trained mIoU is above all others, and a sentence (plain text).
    """
    sentences = []
    for readout, score in scores.get("trained", {}).items():
        others = {
            model: scores[model][readout]["miou"]
            for model in scores
            if model != "trained" and _is_number(scores[model].get(readout, {}).get("miou"))
        }
        if not _is_number(score.get("miou")) or not others:
            continue
        better = all(score["miou"] > other for other in others.values())
        gaps = ", ".join(
            f"{100 * (score['miou'] - other):+.1f} against {_short(model)} ({percent(other)} %)"
            for model, other in others.items()
        )
        start = f"{_readout(readout).capitalize()}: {percent(score['miou'])} % mIoU"
        end = "." if better else ". Not above all of them."
        sentences.append((better, f"{start}. In points, {gaps}{end}"))
    return sentences


def score_table(scores: Scores) -> str:
    """HTML of the table: a row for each model, mIoU and accuracy for each read-out."""
    readouts = list(dict.fromkeys(name for model in scores.values() for name in model))
    groups = "".join(f'<th colspan="2">{escape(_readout(name))}</th>' for name in readouts)
    units = "<th>mIoU</th><th>accuracy</th>" * len(readouts)
    rows = []
    for model, found in scores.items():
        cells = "".join(
            _bar(found.get(name, {}).get(metric))
            for name in readouts
            for metric in ("miou", "accuracy")
        )
        mark = ' class="ours"' if model == "trained" else ""
        rows.append(f"<tr{mark}><th>{escape(_model(model))}</th>{cells}</tr>")
    head = f'<tr><th rowspan="2">val, %</th>{groups}</tr><tr>{units}</tr>'
    return _table(head, rows)


def class_table(scores: Scores, classes: Sequence[str]) -> str:
    """HTML of IoU by class: a row for each class, a column for each model and read-out.

    Empty where no score has an ``iou_per_class``.
    """
    columns = [
        (model, readout, _by_class(score["iou_per_class"], classes))
        for model, found in scores.items()
        for readout, score in found.items()
        if score.get("iou_per_class") is not None
    ]
    if not columns:
        return ""
    heads = "".join(
        f"<th>{escape(_short(model))}<br><small>{escape(_readout(readout))}</small></th>"
        for model, readout, _ in columns
    )
    rows = [
        f"<tr><th>{escape(name)}</th>{''.join(_bar(c[2][k]) for c in columns)}</tr>"
        for k, name in enumerate(classes)
    ]
    return _table(f"<tr><th>IoU, %</th>{heads}</tr>", rows)


def _by_class(values: Any, classes: Sequence[str]) -> list[Any]:
    if isinstance(values, Mapping):
        return [values.get(name) for name in classes]
    if len(values) != len(classes):
        raise ValueError(f"iou_per_class has {len(values)} values for {len(classes)} classes")
    return list(values)


def _bar(value: Any) -> str:
    share = min(max(100 * float(value), 0), 100) if _is_number(value) else 0
    return f'<td class="bar" style="--share:{share:.1f}%">{percent(value)}</td>'


def _table(head: str, rows: list[str]) -> str:
    body = "\n".join(rows)
    return f'<div class="wide"><table><thead>{head}</thead><tbody>\n{body}\n</tbody></table></div>'


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _model(key: str) -> str:
    return MODEL_NAMES.get(key, key)


def _short(key: str) -> str:
    return SHORT_NAMES.get(key, key)


def _readout(key: str) -> str:
    kind, _, number = key.partition("_")
    if kind == "clusters" and number.isdigit():
        return f"{number} clusters"
    return READOUT_NAMES.get(key, key)
