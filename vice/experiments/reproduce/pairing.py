"""Intervals of a table's rows over images, and paired differences to its baseline."""

from __future__ import annotations

from pathlib import Path

from vice.evaluation.compare import make_tables
from vice.evaluation.comparison_page import to_markdown
from vice.evaluation.paired import pair_tables, pairing_sections
from vice.evaluation.scored_folders import read_results
from vice.experiments.reproduce.outcome import Outcome
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.report import pairing_file
from vice.experiments.reproduce.tables import PaperTable
from vice.runtime.files import write_text


def write_pairing(table: PaperTable, outcome: Outcome, plan: ReproducePlan) -> Path | None:
    """Writes ``tables/<table>-<scale>-paired.md``: last checkpoints, as `tools/compare.py` does.

    Args:
        table: What was run.
        outcome: What has come of it.
        plan: As it was run.

    Returns:
        Path of the file; None where there are no two rows to compare, and then there is no file.
    """
    names: dict[str, str] = {}
    folders: list[Path] = []
    for row in table.rows:
        scored = outcome.rows[row.name]
        # Rows of the same run are one; it has the first name.
        names |= {spec: row.name for spec in scored.specs if spec not in names}
        folders += [folder for folder in scored.results if folder not in folders]
    file = pairing_file(table, plan)
    if len(set(names.values())) < 2:
        file.unlink(missing_ok=True)
        return None
    tables = make_tables(read_results(folders), names)
    known = any(table.baseline in each.rows for each in tables)
    pairings = pair_tables(tables, table.baseline if known else None)
    write_text(file, to_markdown(tables, pairing_sections(pairings)))
    return file
