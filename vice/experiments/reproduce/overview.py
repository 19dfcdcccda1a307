"""A line a row: the first thing to look at in a table."""

from __future__ import annotations

from statistics import fmean

from vice.evaluation.comparison_page import markdown_line, spread
from vice.experiments.reproduce.outcome import Outcome, RowOutcome
from vice.experiments.reproduce.tables import PaperTable

#: The one score without labels that checkpoints are chosen by.
_CHOSEN_BY = "mutual_information"


def overview(table: PaperTable, outcome: Outcome) -> list[str]:
    """Lines of a table of all read-outs of the last checkpoints; none with fewer than two rows.

    Args:
        table: What was run.
        outcome: What has come of it.
    """
    rows = {row.name: outcome.rows[row.name] for row in table.rows if outcome.rows[row.name].last}
    scored = [scores for row in rows.values() for scores in row.last]
    names = list(dict.fromkeys(name for scores in scored for name in scores))
    timed = any("milliseconds" in entry for scores in scored for entry in scores.values())
    if len(rows) < 2 or timed:
        return []
    ends = ("NMI of views in %", "views there and back / forward alone", "processor seconds")
    head = ("mIoU in %", *names, *ends, "seeds")
    lines = [markdown_line(head), markdown_line(["---"] * len(head))]
    for name, row in rows.items():
        cells = [_miou(row, readout) for readout in names]
        lines.append(markdown_line([name, *cells, *_ends(row), str(len(row.last))]))
    return [*lines, ""]


def _miou(row: RowOutcome, readout: str) -> str:
    taken = [scores[readout]["miou"] for scores in row.last if readout in scores]
    return spread(taken) if taken else "-"


def _ends(row: RowOutcome) -> tuple[str, str, str]:
    shared = [scores[_CHOSEN_BY] for scores in row.label_free]
    passes = [fmean(counted) for counted in zip(*row.passes, strict=True)]
    return (
        spread(shared) if shared else "-",
        " / ".join(f"{each:,.0f}" for each in passes) if passes else "-",
        f"{fmean(row.processor_seconds):.0f}" if row.processor_seconds else "-",
    )
