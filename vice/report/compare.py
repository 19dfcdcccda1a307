"""One table out of many results directories, and a plain word where they cannot be compared."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from html import escape
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.names import printable
from vice.protocols import told

KINDS = ("linear", "clusters", "finetune")
#: Arguments that change a score and are in no protocol.
ASKED_FOR = ("fraction", "subset_seed", "backbone_lr_mult", "crop", "options")


@dataclass(frozen=True)
class Table:
    """Results that were taken in the same way.

    Attributes:
        title: Data set, scored split and kind of evaluation.
        settings: What was the same for all, flat: dotted name to value.
        columns: Names of the read-outs.
        rows: Embedder to read-out to (mIoU, accuracy) of each seed, shares in [0, 1].
    """

    title: str
    settings: Mapping[str, Any]
    columns: Sequence[str]
    rows: Mapping[str, Mapping[str, list[tuple[float | None, float | None]]]]

    @property
    def subject(self) -> tuple[str, str]:
        """Family of data set and kind of evaluation; only within one is comparing tempting."""
        return self.settings["dataset"].rstrip("0123456789"), self.settings["kind"]


def read_results(folders: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Reads ``results.json`` of each directory.

    Raises:
        UserError: A directory without one, or one that no evaluation of ViCE wrote.
    """
    found = []
    for folder in map(Path, folders):
        file = folder / "results.json"
        if not file.is_file():
            raise UserError(f"{folder} holds no results.json: is it a results directory?")
        try:
            result = json.loads(file.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise UserError(f"{file} is broken ({error}); evaluate again") from error
        if not isinstance(result, dict) or result.get("kind") not in KINDS:
            raise UserError(f"{file} was not written by an evaluation of ViCE")
        if "protocol" not in result:
            raise UserError(f"{file} names no protocol: it is of an older version; evaluate again")
        found.append(result)
    return found


def make_tables(
    results: Sequence[Mapping[str, Any]], names: Mapping[str, str] | None = None
) -> list[Table]:
    """Groups results by how they were taken; only the seed may differ inside a cell.

    Protocol (by all its fields), lists of images and classes must agree.

    Args:
        results: What `read_results` returns.
        names: Pattern of embedders, as the shell has them, to the name of their row; so runs that
            were trained with different seeds share one.

    Returns:
        A table for each way, in the order of their first result.

    Raises:
        UserError: The same embedder, seed and settings twice.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        key = json.dumps(_settings(result), sort_keys=True)
        groups.setdefault(key, []).append(result)
    return [_table(json.loads(key), members, names or {}) for key, members in groups.items()]


def differences(tables: Sequence[Table]) -> list[str]:
    """Says which tables of the same data and kind of evaluation cannot be compared, and why.

    Returns:
        A sentence for each such pair.
    """
    sentences = []
    for i, first in enumerate(tables):
        for j, second in enumerate(tables[:i]):
            if first.subject != second.subject:
                continue
            names = sorted({*first.settings, *second.settings})
            unlike = [
                f"{name} ({second.settings.get(name)} against {first.settings.get(name)})"
                for name in names
                if name != "hash" and first.settings.get(name) != second.settings.get(name)
            ]
            sentences.append(
                f"Table {j + 1} and table {i + 1} are not comparable: {', '.join(unlike)}."
            )
    return sentences


def to_markdown(tables: Sequence[Table]) -> str:
    """The tables as Markdown: mIoU / accuracy in percent, mean ± sd over seeds."""
    parts = []
    for number, table in enumerate(tables, 1):
        head = ["embedder", "seeds", *table.columns]
        lines = [f"**Table {number}. {table.title}**, mIoU / accuracy in %", ""]
        lines += [markdown_line(head), markdown_line(["---"] * len(head))]
        lines += [markdown_line(cells) for cells in _cells(table)]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, *differences(tables)]) + "\n"


def to_html(tables: Sequence[Table]) -> str:
    """The same as `to_markdown`, as a page."""
    parts = []
    for number, table in enumerate(tables, 1):
        head = "".join(f"<th>{escape(c)}</th>" for c in ["embedder", "seeds", *table.columns])
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(printable(cell))}</td>" for cell in cells) + "</tr>"
            for cells in _cells(table)
        )
        title = f"Table {number}. {table.title}, mIoU / accuracy in %"
        parts.append(f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{rows}</table>")
    parts += [f"<p>{escape(sentence)}</p>" for sentence in differences(tables)]
    style = "td,th{padding:.3em .8em;text-align:right;border-bottom:1px solid #ccc}"
    return (
        '<!doctype html><meta charset="utf-8"><title>ViCE: results compared</title>'
        f"<style>body{{font-family:sans-serif}}{style}</style>\n" + "\n".join(parts) + "\n"
    )


def _settings(result: Mapping[str, Any]) -> dict[str, Any]:
    data, arguments = result["dataset"], result["arguments"]
    flat: dict[str, Any] = {
        "kind": result["kind"],
        "dataset": data["name"],
        "fitted on": data["fit_name"],
        "classes": result["classes"],
        "protocol": result["protocol"]["name"],
        "hash": result["protocol"]["hash"],
    }
    fields = told(result["protocol"]["fields"])
    flat |= {f"protocol.{name}": value for name, value in fields.items()}
    for part in ("splits", "images", "list_checksums"):
        flat |= {f"{part}.{name}": value for name, value in data[part].items()}
    return flat | {name: arguments[name] for name in ASKED_FOR if arguments.get(name)}


def _table(
    settings: dict[str, Any], members: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> Table:
    rows: dict[str, dict[str, list[tuple[float | None, float | None]]]] = {}
    columns: dict[str, None] = {}
    seen = set()
    for result in members:
        for name, scores in readouts(result).items():
            key = (result["spec"], result["seed"], name)
            if key in seen:
                raise UserError(
                    f"{result['spec']} with seed {result['seed']} is there twice ({name}, "
                    f"{settings['dataset']}): name one of the two directories only"
                )
            seen.add(key)
            columns[name] = None
            row = next((n for p, n in names.items() if fnmatch(result["spec"], p)), result["spec"])
            cell = rows.setdefault(row, {}).setdefault(name, [])
            cell.append((scores["miou"], scores["accuracy"]))
    title = (
        f"{settings['dataset']} {settings['splits.score']}, {settings['kind']}, "
        f"{settings['protocol']} ({settings['hash']})"
    )
    return Table(title, settings, list(columns), rows)


def readouts(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The scores of a result by read-out, for example ``linear`` or ``27 greedy``."""
    if result["kind"] != "clusters":
        return {result["kind"]: result[result["kind"]]}
    return {
        f"{k} {matching}": entry[matching]
        for k, entry in result["clusters"].items()
        for matching in result["protocol"]["fields"]["matchings"]
    }


def _cells(table: Table) -> list[list[str]]:
    lines = []
    for spec, found in table.rows.items():
        seeds = max(len(values) for values in found.values())
        cells = [" / ".join(map(spread, zip(*found[c], strict=True))) if c in found else "-"
                 for c in table.columns]  # fmt: skip
        lines.append([spec, str(seeds), *cells])
    return lines


def spread(values: Sequence[float | None]) -> str:
    """Mean, and the standard deviation (n - 1) where there is more than one value."""
    numbers = [100 * value for value in values if value is not None]
    if not numbers:
        return "-"
    mean = f"{statistics.fmean(numbers):.2f}"
    return mean if len(numbers) == 1 else f"{mean} ± {statistics.stdev(numbers):.2f}"


def markdown_line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(printable(cell).replace("|", "\\|") for cell in cells) + " |"
