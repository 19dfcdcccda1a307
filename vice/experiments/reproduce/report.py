"""A reproduced table beside the papers' figures, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from statistics import fmean

from vice.datasets import DATASETS
from vice.evaluation.comparison_page import markdown_line, spread
from vice.experiments.reproduce.evaluations import Scores
from vice.experiments.reproduce.notes import STABILITY, notes
from vice.experiments.reproduce.outcome import Outcome, RowOutcome
from vice.experiments.reproduce.overview import overview
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.tables import Experiment, PaperTable
from vice.runtime.files import write_json, write_text

#: Read-out of a row that could not be scored.
NO_WEIGHTS = "no weights"
LABEL_FREE = {
    "perplexity_over_k": "perplexity / K",
    "loss_over_lnk": "loss / ln K",
    "agreement": "agreement of views",
    "mutual_information": "NMI of views",
    "cosine": "cosine of views",
}
#: Where, and why. Names of rows may hold colons themselves.
_FAILURE = re.compile(r"(.*?, (?:seed \d+|stability between seeds))(: .*)", re.DOTALL)
HEAD = ("row", "read-out", "published", "source", "last checkpoint", "label-free choice", "seeds")


def write_report(table: PaperTable, outcome: Outcome, plan: ReproducePlan) -> Path:
    """Writes ``tables/<table>-<scale>.md`` and ``.json`` into the plan's folder.

    Differences and pictures that an earlier call has written beside it go: they are of that call's
    table.

    Args:
        table: What was run.
        outcome: What has come of it.
        plan: At which scale, on what, with how many seeds.

    Returns:
        Path of the Markdown file.
    """
    file = report_file(table, plan)
    text = to_markdown(table, outcome, plan)
    # Order: a call that is killed must leave no table with differences of another.
    for earlier in (pairing_file(table, plan), picture_file(table, plan)):
        earlier.unlink(missing_ok=True)
    write_text(file, text)
    content = {"table": dataclasses.asdict(table), **dataclasses.asdict(outcome)}
    content["plan"] = dataclasses.asdict(plan)
    write_json(file.with_suffix(".json"), content, default=str)
    return file


def report_file(table: PaperTable, plan: ReproducePlan) -> Path:
    """Where the report of a table is written: other overrides, or folders, are other files."""
    names = "".join(map(_in_name, dict.fromkeys(plan.datasets.values())))
    if changed := plan.changed():
        content = json.dumps(changed, sort_keys=True)
        names += f"-overrides-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    return plan.out / "tables" / f"{table.name}-{plan.scale.name}{names}.md"


def _in_name(dataset: str) -> str:
    """A data set in the name of a file: folders of one name are told apart by where they lie."""
    if dataset in DATASETS:
        return f"-{dataset}"
    place = os.path.abspath(dataset)
    return f"-{Path(place).name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:6]}"


def pairing_file(table: PaperTable, plan: ReproducePlan) -> Path:
    """Where the paired differences of a table are written."""
    file = report_file(table, plan)
    return file.with_name(f"{file.stem}-paired.md")


def picture_file(table: PaperTable, plan: ReproducePlan) -> Path:
    """Where the same images under every row are drawn."""
    return report_file(table, plan).with_suffix(".png")


def to_markdown(table: PaperTable, outcome: Outcome, plan: ReproducePlan) -> str:
    """A line a row, every read-out, what the scale and the data change, and what failed.

    mIoU / accuracy in percent, mean ± standard deviation over seeds; a difference of mIoU to the
    table's baseline in brackets.

    Args:
        table: What was run.
        outcome: What has come of it.
        plan: At which scale, on what, with how many seeds.
    """
    lines = [f"**{table.title}** ({', '.join(filter(None, [table.source, plan.scale.name]))})", ""]
    if table.about:
        lines += [table.about, ""]
    lines += overview(table, outcome)
    lines += [markdown_line(HEAD), markdown_line(["---"] * len(HEAD))]
    baseline = outcome.rows.get(table.baseline)
    owners: dict[str, str] = {}
    for row in table.rows:
        row_outcome = outcome.rows[row.name]
        name = row.name
        first = owners.setdefault(row_outcome.run or row.name, row.name)
        if first != row.name:
            name += f" (the same run as {first!r} here)"
        lines += [
            markdown_line([name, *cells])
            for cells in _cells(table, row, row_outcome, baseline, plan)
        ]
    lines += [*_label_free(table, outcome), *curves(table, outcome), ""]
    lines += notes(table, plan, outcome)
    lines += [
        f"- {name}: its classes are not compared by direction alone: no scores without labels"
        for name in _incomparable(table, outcome)
    ]
    lines += [f"- failed: {line}" for line in _by_cause(outcome.failures)]
    lines += [f"- waiting: {line}" for line in outcome.waiting]
    return "\n".join(lines) + "\n"


def _incomparable(table: PaperTable, outcome: Outcome) -> list[str]:
    """Rows that were trained and scored, and have no scores without labels."""
    scored = {row.name: outcome.rows[row.name] for row in table.rows if row.config is not None}
    return [name for name, found in scored.items() if found.epochs and not found.label_free]


def _by_cause(failures: Sequence[str]) -> list[str]:
    """Failures of one cause in one line: a folder that is not there fails every row."""
    causes: dict[str, list[str]] = {}
    for line in failures:
        found = _FAILURE.fullmatch(line)
        where, cause = found.groups() if found else (line, "")
        causes.setdefault(cause, []).append(where)
    return [
        (where[0] if len(where) == 1 else f"{where[0]} and {len(where) - 1} more") + cause
        for cause, where in causes.items()
    ]


def _cells(
    table: PaperTable,
    row: Experiment,
    outcome: RowOutcome,
    baseline: RowOutcome | None,
    plan: ReproducePlan,
) -> list[list[str]]:
    """A line for each read-out that is published or measured."""
    names = dict.fromkeys([*row.published, *(name for scores in outcome.last for name in scores)])
    names.pop("training", None)
    source = row.source or table.source
    lines = []
    if outcome.missing and not outcome.last:
        lines.append([NO_WEIGHTS, "-", "-", outcome.missing, "-", "-"])
        names = dict.fromkeys(row.published)
    for name in names or ([] if lines else ["-"]):
        figures = row.published.get(name)
        shown = figure(figures, plan.comparable())
        base = None if baseline is None or baseline is outcome else baseline
        last = measured(outcome.last, name, base.last if base else [])
        chosen = measured(outcome.compared, name, base.compared if base else [])
        if outcome.epochs:
            chosen += (
                " (last)" if outcome.same else f" (epoch {', '.join(map(str, outcome.epochs))})"
            )
        seeds = sum(name in scores for scores in outcome.last)
        lines.append([name, shown, source if figures else "-", last, chosen, str(seeds or "-")])
    if outcome.stability:
        kinds = ("adjusted_rand_index", "normalized_mutual_information")
        ari, nmi = (spread([pair[kind] for pair in outcome.stability]) for kind in kinds)
        seeds = len({seed for pair in outcome.stability for seed in pair["seeds"]})
        lines.append([STABILITY, "-", "-", f"ARI {ari} / NMI {nmi}", "-", str(seeds)])
    if outcome.seconds or "training" in row.published:
        time = row.published.get("training")
        taken = f"{fmean(outcome.seconds):.0f} s" if outcome.seconds else "-"
        if outcome.processor_seconds:
            taken += f", {fmean(outcome.processor_seconds):.0f} s of the processor"
        taken += _passes(outcome)
        if outcome.precisions:
            taken += f", in {' and '.join(sorted(set(outcome.precisions)))}"
        shown = "-" if time is None else f"{time}{'' if plan.comparable() else ' †'}"
        lines.append(["training", shown, source if time else "-", taken, "-", "-"])
    return lines


def _passes(outcome: RowOutcome) -> str:
    """What a training of a row passed through its networks; empty where it was not counted."""
    if not outcome.passes:
        return ""
    trained, only = (
        sum(counted) / len(outcome.passes) for counted in zip(*outcome.passes, strict=True)
    )
    return f", {trained:,.0f} views forward and backward, {only:,.0f} forward alone"


def _label_free(table: PaperTable, outcome: Outcome) -> list[str]:
    """The second table; nothing where no row was trained."""
    rows = {row.name: outcome.rows[row.name].label_free for row in table.rows}
    lines = []
    for name, scores in rows.items():
        if scores:
            cells = [spread([entry[key] for entry in scores]) for key in LABEL_FREE]
            lines.append(markdown_line([name, *cells, str(len(scores))]))
    if not lines:
        return []
    head = ("row", *LABEL_FREE.values(), "seeds")
    shared = f", in views as {table.baseline!r} makes them" if table.baseline else ""
    title = f"Last checkpoint without labels, on images that were not trained on{shared}, in %:"
    return ["", title, "", markdown_line(head), markdown_line(["---"] * len(head)), *lines]


def curves(table: PaperTable, outcome: Outcome) -> list[str]:
    """Lines of the table over epochs; none where no curve was asked for.

    Args:
        table: What was run.
        outcome: What has come of it.
    """
    lines, most = [], 0
    for row in table.rows:
        taken = outcome.rows[row.name].curve
        # Seeds of one length: whoever changes the number of epochs begins another run.
        epochs = sorted(taken[0]) if taken else []
        most = max([most, *epochs])
        for name in dict.fromkeys(name for scores in taken for name in scores[epochs[-1]]):
            values = {
                epoch: [_value(scores[epoch][name], "miou") for scores in taken] for epoch in epochs
            }
            means = {epoch: fmean(seeds) for epoch, seeds in values.items()}
            # NaN: no class of the epoch could be counted, and comparisons with it are all false.
            best = max(means, key=lambda epoch: -1 if isnan(means[epoch]) else means[epoch])
            by_epoch = {epoch: spread(seeds) for epoch, seeds in values.items()}
            lines.append((row.name, name, by_epoch, f"epoch {best}, {100 * means[best]:.2f}"))
    if not lines:
        return []
    numbers = range(1, most + 1)
    head = ("row", "read-out", *(f"epoch {number}" for number in numbers), "best by labels")
    return [
        "",
        "Over epochs, mIoU in %, mean ± standard deviation over seeds; what is called best has "
        "seen the labels that it is scored by:",
        "",
        markdown_line(head),
        markdown_line(["---"] * len(head)),
        *(
            markdown_line([name, readout, *(of.get(number, "-") for number in numbers), best])
            for name, readout, of, best in lines
        ),
    ]


def figure(figures: Mapping[str, float] | None, comparable: bool) -> str:
    """A published figure, with † where the results beside it are not comparable with it."""
    if not figures:
        return "-"
    if "difference" in figures:
        text = f"({figures['difference']:+.2f})"
    elif "milliseconds" in figures:
        text = f"{figures['milliseconds']:g} ms"
    else:
        text = " / ".join(
            f"{figures[key]:.2f}" if key in figures else "-" for key in ("miou", "accuracy")
        )
    return text if comparable else f"{text} †"


def measured(scores: Sequence[Scores], name: str, baseline: Sequence[Scores]) -> str:
    """Mean ± standard deviation over seeds of one read-out, and the difference to a baseline.

    Args:
        scores: A seed each.
        name: The read-out.
        baseline: The baseline's scores; empty for no difference.
    """
    entries = [entry[name] for entry in scores if name in entry]
    if not entries:
        return "-"
    if "milliseconds" in entries[0]:
        # Units: shares become percent there, and milliseconds are none.
        return f"{spread([_value(entry, 'milliseconds') / 100 for entry in entries])} ms"
    text = " / ".join(spread([entry[key] for entry in entries]) for key in ("miou", "accuracy"))
    reference = [entry[name] for entry in baseline if name in entry]
    if not reference:
        return text
    means = [sum(_value(e, "miou") for e in group) / len(group) for group in (entries, reference)]
    return f"{text} ({100 * (means[0] - means[1]):+.2f})"


def _value(entry: Mapping[str, float | None], key: str) -> float:
    value = entry[key]
    return float("nan") if value is None else float(value)
