"""Comparison tables as Markdown and as a page."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from vice.evaluation.compare import ComparisonTable, differences, readouts
from vice.evaluation.intervals import interval_text
from vice.evaluation.matchings import MATCHINGS
from vice.names import printable
from vice.visualize.page_style import CSS, scrolling


@dataclass(frozen=True)
class Section:
    """A table as it is shown, with sentences below it; without lines there are only these."""

    title: str
    unit: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def to_markdown(tables: Sequence[ComparisonTable], further: Sequence[Section] = ()) -> str:
    """The tables as Markdown: mIoU / accuracy in percent, mean ± sd over seeds.

    A single seed has the interval over images in place of the deviation.

    Args:
        tables: What `make_tables` returns.
        further: Shown after them.
    """
    parts = []
    for section in [*_sections(tables), *further]:
        lines = [f"**{section.title}**, {section.unit}", ""]
        lines += [markdown_line(section.head), markdown_line(["---"] * len(section.head))]
        lines += [markdown_line(cells) for cells in section.lines]
        parts += ["\n".join(lines)] if section.lines else []
        parts += section.notes
    parts += [f"- {term}: {text}" for term, text in _matchings(tables)]
    return "\n\n".join([*parts, *differences(tables)]) + "\n"


def to_html(tables: Sequence[ComparisonTable], further: Sequence[Section] = ()) -> str:
    """The same as `to_markdown`, as a page."""
    parts = []
    for section in [*_sections(tables), *further]:
        head = "".join(f"<th>{escape(printable(cell))}</th>" for cell in section.head)
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(printable(cell))}</td>" for cell in cells) + "</tr>"
            for cells in section.lines
        )
        title = printable(f"{section.title}, {section.unit}")
        shown = scrolling(f"<table><tr>{head}</tr>{rows}</table>")
        parts += [f"<h2>{escape(title)}</h2>{shown}"] if section.lines else []
        parts += [f"<p>{escape(printable(note))}</p>" for note in section.notes]
    legend = "".join(
        f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in _matchings(tables)
    )
    parts += [f"<dl>{legend}</dl>"] if legend else []
    parts += [f"<p>{escape(sentence)}</p>" for sentence in differences(tables)]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>ViCE: results compared</title><style>{CSS}</style>\n<main>"
        + "\n".join(parts)
        + "\n</main></html>\n"
    )


def _unit(table: ComparisonTable) -> str:
    return f"mIoU ({table.mean}) / accuracy in %" if table.mean else "mIoU / accuracy in %"


def _matchings(tables: Sequence[ComparisonTable]) -> list[tuple[str, str]]:
    """The matchings that columns are named by, and what each is."""
    used = {column.rpartition(" ")[2] for table in tables for column in table.columns}
    return [(name, text) for name, text in MATCHINGS.items() if name in used]


def _sections(tables: Sequence[ComparisonTable]) -> list[Section]:
    return [
        Section(
            f"Table {number}. {table.title}",
            _unit(table),
            ["embedder", "seeds", *table.columns],
            _cells(table),
        )
        for number, table in enumerate(tables, 1)
    ]


def _cells(table: ComparisonTable) -> list[list[str]]:
    lines = []
    for spec, by_readout in table.rows.items():
        seeds = max(len(values) for values in by_readout.values())
        cells = [_cell(table, spec, c) if c in by_readout else "-" for c in table.columns]
        lines.append([spec, str(seeds), *cells])
    return lines


def _cell(table: ComparisonTable, row: str, column: str) -> str:
    texts = [spread(values) for values in zip(*table.rows[row][column], strict=True)]
    results = table.members.get(row, {}).get(column, [])
    if len(results) == 1:
        of = readouts(results[0])[column].get("interval") or {}
        texts = [
            text + interval_text(of.get(name))
            for name, text in zip(("miou", "accuracy"), texts, strict=True)
        ]
    return " / ".join(texts)


def spread(values: Sequence[float | None]) -> str:
    """Mean, and the standard deviation (n - 1) where there is more than one value."""
    numbers = [100 * value for value in values if value is not None]
    if not numbers:
        return "-"
    mean = f"{statistics.fmean(numbers):.2f}"
    return mean if len(numbers) == 1 else f"{mean} ± {statistics.stdev(numbers):.2f}"


def markdown_line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    shown = (" ".join(printable(cell).split()).replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(shown) + " |"
