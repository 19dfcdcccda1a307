"""The scores of a report: a verdict in words, the table, and the table by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vice.evaluation.matchings import MATCHING_NAMES, MATCHINGS
from vice.names import printable
from vice.visualize.maps import palette
from vice.visualize.page_style import scrolling

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]

MODEL_NAMES = {
    "trained": "ViCE, trained",
    "random": "same network, random weights",
    "lab": "Lab colour, no network",
}
SHORT_NAMES = {"trained": "trained", "random": "random weights", "lab": "Lab colour"}
READOUT_NAMES = {"linear": "linear probe"}
#: Read-out to ``clusters`` (their number) and ``matching``, both optional.
Readouts = Mapping[str, Mapping[str, Any]]
#: Characters beyond which a name is cut to a few lines; pointing at it shows all.
LONG_NAME = 80
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


def verdict(scores: Scores, readouts: Readouts | None = None) -> list[tuple[bool, str]]:
    """Says for each read-out how the trained model compares with the others.

    Args:
        scores: Model to read-out to scores.
        readouts: What is known of the read-outs.

    Returns:
        For each read-out, whether trained mIoU is above all others, and a sentence (plain text).
    """
    sentences = []
    for readout, score in (scores.get("trained") or {}).items():
        others = {
            model: entry["miou"]
            for model in scores
            if model != "trained"
            and _is_number((entry := _entry(scores, model, readout)).get("miou"))
        }
        if not _is_number((score or {}).get("miou")) or not others:
            continue
        better = all(score["miou"] > other for other in others.values())
        gaps = ", ".join(
            f"{100 * (score['miou'] - other):+.1f} against {_short(model)} ({percent(other)} %)"
            for model, other in others.items()
        )
        name = readout_name(readout, scores, readouts)
        start = f"{name[:1].upper()}{name[1:]}: {percent(score['miou'])} % mIoU"
        end = "." if better else ". Not above all of them."
        sentences.append((better, f"{start}. In points, {gaps}{end}"))
    return sentences


def score_table(scores: Scores, readouts: Readouts | None = None) -> str:
    """HTML of the table: a row for each model, mIoU and accuracy for each read-out."""
    columns = list(dict.fromkeys(name for model in scores.values() for name in model or ()))
    groups = "".join(
        f'<th colspan="2">{_name(readout_name(name, scores, readouts))}</th>' for name in columns
    )
    units = "<th>mIoU</th><th>accuracy</th>" * len(columns)
    rows = []
    for model in scores:
        cells = "".join(
            _bar(_entry(scores, model, name).get(metric))
            for name in columns
            for metric in ("miou", "accuracy")
        )
        mark = ' class="ours"' if model == "trained" else ""
        rows.append(f'<tr{mark}><th class="name">{_name(_model(model))}</th>{cells}</tr>')
    head = f'<tr><th rowspan="2" class="name">val, %</th>{groups}</tr><tr>{units}</tr>'
    return _table(head, rows)


def class_table(
    scores: Scores,
    classes: Sequence[str],
    readouts: Readouts | None = None,
    notes: Mapping[str, str] | None = None,
) -> str:
    """HTML of IoU by class: a row for each class, a column for each model and read-out.

    Args:
        scores: Model to read-out to scores.
        classes: Names, in the order of their indices.
        readouts: What is known of the read-outs.
        notes: Class to what its name means; shown below the name.

    Returns:
        The table; empty where no score has an ``iou_per_class``.

    Raises:
        ValueError: An ``iou_per_class`` has not one value for each class.
    """
    columns = [
        (model, readout, _by_class(score["iou_per_class"], classes))
        for model, by_readout in scores.items()
        for readout, score in (by_readout or {}).items()
        if (score or {}).get("iou_per_class") is not None
    ]
    if not columns:
        return ""
    heads = "".join(
        f"<th>{_name(_short(model))}<br>"
        f"<small>{_name(readout_name(readout, scores, readouts))}</small></th>"
        for model, readout, _ in columns
    )
    rows = [
        f'<tr><th class="name">{swatch}{_name(name)}{_note(notes, name)}</th>'
        f"{''.join(_bar(c[2][k]) for c in columns)}</tr>"
        for k, (name, swatch) in enumerate(zip(classes, _swatches(len(classes)), strict=True))
    ]
    return _table(f'<tr><th class="name">IoU, %</th>{heads}</tr>', rows)


def terms(scores: Scores, readouts: Readouts | None = None) -> list[tuple[str, str]]:
    """The words of a report that its scores use, and what each means."""
    keys = {key for by_readout in scores.values() for key in by_readout or ()}
    used = {(readouts or {}).get(key, {}).get("matching") for key in keys}
    matched = [
        (f"{label} matching", MATCHINGS[name])
        for name, label in MATCHING_NAMES.items()
        if name in used
    ]
    return [*EXPLANATIONS[:4], *matched, *EXPLANATIONS[4:]]


def readout_name(key: str, scores: Scores, readouts: Readouts | None = None) -> str:
    """Full name of a read-out: of clusters how many there are, and how they were matched.

    Args:
        key: Its key in the scores: ``linear``, ``clusters``, ``clusters_<K>``, or any name.
        scores: Where nothing else is known, the length of a ``mapping`` there is the number.
        readouts: What is known of the read-outs.
    """
    kind, _, number = key.partition("_")
    if kind != "clusters" or (number and not number.isdigit()):
        return READOUT_NAMES.get(key, key)
    known = (readouts or {}).get(key) or {}
    mappings = (_entry(scores, model, key).get("mapping") for model in scores)
    count = known.get("clusters") or number or next((len(m) for m in mappings if m), None)
    name = f"{count} clusters" if count else "clusters (how many is not recorded)"
    matching = known.get("matching")
    return f"{name}, {MATCHING_NAMES.get(matching, matching)}" if matching else name


def _entry(scores: Scores, model: str, readout: str) -> Mapping[str, Any]:
    return (scores[model] or {}).get(readout) or {}


def _name(text: str) -> str:
    # Bidirectional isolation: a name written from right to left leaves its neighbours in order.
    text = printable(text)
    if len(text) > LONG_NAME:
        return f'<bdi class="long" title="{escape(text)}">{escape(text)}</bdi>'
    return f"<bdi>{escape(text)}</bdi>"


def _note(notes: Mapping[str, str] | None, name: str) -> str:
    text = (notes or {}).get(name)
    return f"<br><small>{_name(text)}</small>" if text else ""


def _swatches(count: int) -> list[str]:
    """The colours that class maps show classes in."""
    return [
        f'<i class="swatch" style="background:#{red:02x}{green:02x}{blue:02x}"></i>'
        for red, green, blue in palette(count).tolist()
    ]


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
    return scrolling(f"<table><thead>{head}</thead><tbody>\n{body}\n</tbody></table>")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _model(key: str) -> str:
    return MODEL_NAMES.get(key, key)


def _short(key: str) -> str:
    return SHORT_NAMES.get(key, key)
