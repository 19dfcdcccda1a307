"""Which data a table's rows will read, and what runs unasked: said before any of them runs."""

from __future__ import annotations

import logging
from collections.abc import Collection

from vice.datasets import DATASETS, open_dataset
from vice.errors import UserError
from vice.evaluation.protocols import default_protocol, get_protocol
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.tables import PaperTable
from vice.images.lists import announce

logger = logging.getLogger(__name__)


def announce_baseline(name: str) -> None:
    """Says that a row is trained and scored which nobody named.

    Args:
        name: What `vice.experiments.reproduce.tables.comes_along` gives.
    """
    if name:
        logger.info(
            "%s comes along: the others are compared with it; what is done of it stays", name
        )


def announce_datasets(
    table: PaperTable, plan: ReproducePlan, rows: Collection[str] | None = None
) -> None:
    """Says of each data set of a table what lies in the folders of its splits.

    What is missing is named in a line as well; the rows that need it fail on their own.

    Args:
        table: The table.
        plan: What the user asks for.
        rows: Names of the rows that will be run; None for all.
    """
    names: dict[str, None] = {}
    for row in table.rows:
        if rows is None or row.name in rows:
            for said in row.evaluate.values():
                for key in ("dataset", "fit_dataset"):
                    if said.get(key):
                        names[plan.dataset(said[key])] = None
    for name in names:
        kind = name if name in DATASETS else "folder"
        protocol = get_protocol(default_protocol(kind), kind)
        try:
            data = open_dataset(name, plan.data_root)
            for split in (protocol.fit_split, protocol.score_split):
                for contents in data.contents(split):
                    announce(contents)
        except UserError as error:
            logger.info("%s", error)
