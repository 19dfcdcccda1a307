"""Paired differences between results: the same resamples of the same images for all of them.

Two scores on the same images rise and fall together, so their difference is known better than
either: intervals that overlap do not mean that a difference is within chance.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vice.errors import UserError, brief
from vice.evaluation.compare import BEST_NAME, BEST_READOUT, ComparisonTable, readouts
from vice.evaluation.comparison_page import Section
from vice.evaluation.image_counts import ImageTables, load_image_tables
from vice.evaluation.intervals import (
    LEVEL,
    MATCHED_ANEW,
    RESAMPLES,
    ResampledScores,
    centered,
    interval,
    is_matched_anew,
    resampled_mapping,
    resampled_scores,
)
from vice.evaluation.matchings import match
from vice.evaluation.results import scores
from vice.evaluation.whole_results import LACKING, mapping_of
from vice.names import printable
from vice.runtime.run_folder import PER_IMAGE_NAME, RESULTS_NAME

METRICS = ("miou", "accuracy")


@dataclass(frozen=True)
class Difference:
    """One score less another, in shares.

    Attributes:
        value: The difference of the scores themselves.
        low: Lower end of its interval over resamples.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def within(self) -> bool:
        """Whether 0 lies in the interval: other images might have turned the difference round."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Pairing:
    """Differences of all rows of a table to one of them.

    Attributes:
        number: Which table, from 1.
        reference: The row that is subtracted.
        images: Number of scored images, which are resampled.
        rows: Row to read-out to metric (``"miou"``, ``"accuracy"``) to difference; None where one
            of the two has no such score.
        notes: Why rows are missing, a sentence each.
    """

    number: int
    reference: str
    images: int
    rows: Mapping[str, Mapping[str, Mapping[str, Difference | None]]]
    notes: Sequence[str]


def pair_tables(tables: Sequence[ComparisonTable], against: str | None = None) -> list[Pairing]:
    """Differences within each table of two or more rows.

    All results of a table were scored on the same images under the same protocol; of those of
    different tables none are paired. Several seeds of a row are averaged in each resample, so that
    an interval is one over images, not over seeds.

    Args:
        tables: Made of results that know their ``folder``.
        against: Row that others are compared with; None takes the first of each table that has a
            read-out in common with another.

    Returns:
        The pairings, without tables of a single row.

    Raises:
        UserError: No table has such a row, or counts of images that are not those of their result.
    """
    if against is not None and not any(against in table.rows for table in tables):
        names = ", ".join(dict.fromkeys(row for table in tables for row in table.rows))
        raise UserError(f"--against {against}: no table has such a row; there are {names}")
    return [
        _pair(number, table, against)
        for number, table in enumerate(tables, 1)
        if len(table.rows) > 1
    ]


def pairing_sections(pairings: Sequence[Pairing]) -> list[Section]:
    """Pairings as they are shown, in percentage points."""
    return [
        Section(
            f"Differences in table {pairing.number}: each row less {printable(pairing.reference)}",
            f"mIoU / accuracy in points, with {100 * LEVEL:.0f} % intervals over the same "
            f"{RESAMPLES:,} resamples of the {pairing.images} scored images; a difference whose "
            "interval holds 0 lies within chance",
            ["embedder", *_columns(pairing)],
            [
                [row, *(_shown(by_readout.get(name)) for name in _columns(pairing))]
                for row, by_readout in pairing.rows.items()
            ],
            [printable(note) for note in pairing.notes],
        )
        for pairing in pairings
    ]


def _columns(pairing: Pairing) -> list[str]:
    return list(dict.fromkeys(name for of in pairing.rows.values() for name in of))


def _shown(differences: Mapping[str, Difference | None] | None) -> str:
    if differences is None:
        return "-"
    return " / ".join(map(shown_difference, differences.values()))


def shown_difference(each: Difference | None) -> str:
    """A difference in points with its interval, and whether it lies within chance."""
    if each is None:
        return "-"
    return f"{100 * each.value:+.2f} [{100 * each.low:+.2f}, {100 * each.high:+.2f}]" + (
        " (within)" if each.within else ""
    )


def _pair(number: int, table: ComparisonTable, against: str | None) -> Pairing:
    notes = []
    reference = _reference(table)
    if against in table.rows:
        reference = str(against)
    elif against is not None:
        notes.append(f"Table {number} has no row {against}: differences are to {reference}.")
    without = _without_counts(table)
    if without:
        folders = ", ".join(folder for of in without.values() for folder in of)
        notes.append(
            f"Table {number}: {', '.join(without)} cannot be paired, without {PER_IMAGE_NAME} in "
            f"{folders}: evaluate again (means over seeds, of clusters=objects, have none)."
        )
    cells = {
        row: {name: _cell(of, name) for name, of in by_readout.items()}
        for row, by_readout in table.members.items()
        if row not in without
    }
    rows = {
        row: {
            name: {m: difference(of[name][m], cells[reference][name][m]) for m in METRICS}
            for name in of
            if name in cells[reference]
        }
        for row, of in cells.items()
        if row != reference and reference in cells
    }
    apart = [row for row, of in rows.items() if not of]
    if apart:
        notes.append(
            f"Table {number}: nothing of {', '.join(apart)} is read out as something of "
            f"{reference} is: --against names another row."
        )
    paired = {row: of for row, of in rows.items() if of}
    return Pairing(number, reference, table.settings["images.score"], paired, notes)


def _reference(table: ComparisonTable) -> str:
    """The first row that has a read-out in common with another, else the first."""
    rows = list(table.rows)
    shared = (
        row
        for row in rows
        if any(not table.rows[row].keys().isdisjoint(table.rows[o]) for o in rows if o != row)
    )
    return next(shared, rows[0])


def _without_counts(table: ComparisonTable) -> dict[str, list[str]]:
    """Rows some of whose results lack the counts of their images, with the folders."""
    lacking: dict[str, list[str]] = {}
    for row, by_readout in table.members.items():
        folders = {str(r.get("folder", "?")) for of in by_readout.values() for r in of}
        lacks = sorted(f for f in folders if not (Path(f) / PER_IMAGE_NAME).is_file())
        if lacks:
            lacking[row] = lacks
    return lacking


#: A score (None: there is none) and its values in the resamples.
RowScore = tuple[float | None, np.ndarray]


def row_score(
    readout: str, scores: Sequence[float | None], drawn: Sequence[np.ndarray]
) -> RowScore:
    """Mean over the seeds of a row, and its values in the resamples.

    Matchings that are taken anew score too high in a resample, by more in one row than in another,
    so that a difference does not cancel it: their resamples are centered, as those of the row's own
    interval are.

    Args:
        readout: Name of the score.
        scores: Of each seed; None where there is none, and then the row has none.
        drawn: (R,) of each seed, in the same resamples.
    """
    values = np.mean(drawn, axis=0)
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return None, values
    mean = statistics.fmean(known)
    return mean, centered(values, mean) if is_matched_anew(readout) else values


def difference(one: RowScore, other: RowScore) -> Difference | None:
    """One score less another over the same resamples; None where there is none."""
    between = interval(one[1] - other[1])
    if one[0] is None or other[0] is None or between is None:
        return None
    return Difference(one[0] - other[0], *between)


def _cell(results: Sequence[Mapping[str, Any]], readout: str) -> dict[str, RowScore]:
    """Means over the seeds of a row: metric to the score and its resampled values."""
    drawn = [_resample(result, readout) for result in results]
    said = [readouts(result)[readout] for result in results]
    return {
        metric: row_score(readout, [of[metric] for of in said], [each[metric] for each in drawn])
        for metric in METRICS
    }


def _resample(result: Mapping[str, Any], readout: str) -> ResampledScores:
    path = Path(result["folder"]) / PER_IMAGE_NAME
    try:
        over = result["protocol"]["fields"].get("miou_over", "present")
        tables, mapping = _tables(result, readout, path, over)
    except UserError:
        raise
    except LACKING as error:
        raise UserError(
            f"{path.parent} lacks a part that pairing needs ({brief(error)}); evaluate again"
        ) from error
    return resampled_scores(tables, {readout: mapping}, over=over)[readout]


def _tables(
    result: Mapping[str, Any], readout: str, path: Path, over: str
) -> tuple[ImageTables, Tensor | str]:
    """Counts of each image and the mapping of a read-out, which must give the result's score."""
    classes, images = tuple(result["classes"]), result["dataset"]["images"]["score"]
    name, _, matching = readout.partition(" ")
    if readout == BEST_READOUT:
        name, matching = BEST_NAME, ""
    sizes = {name: len(classes)}
    if result["kind"] == "clusters":
        sizes = {key: int(key) for key in result["clusters"]}
    shapes = {key: (size, len(classes)) for key, size in sizes.items()}
    tables = load_image_tables(path, shapes, images)[name]
    total, said = tables.total(), readouts(result)[readout]
    if matching in MATCHED_ANEW:
        mapping = match(matching, total)
    else:
        held = mapping_of(said, sizes[name], len(classes)) if matching else None
        mapping = total.identity() if held is None else torch.tensor(held)
    again = scores(total, mapping, classes, over=over)["miou"]
    if said["miou"] is not None and (again is None or abs(again - said["miou"]) > 1e-9):
        raise UserError(
            f"{path}: its counts give another mIoU than the {RESULTS_NAME} beside it; evaluate "
            "again"
        )
    return tables, resampled_mapping(matching, mapping)
