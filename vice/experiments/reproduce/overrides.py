"""Overrides that a call gives to all trainings of a table: refused before anything is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from functools import lru_cache

from vice.errors import UserError
from vice.experiments.reproduce.plan import ReproducePlan, plan_run
from vice.experiments.reproduce.tables import Experiment, PaperTable, is_trained, table_names

#: Keys that the call says itself, and how.
_SAID_OTHERWISE = {
    "config": "each row has its own",
    "config.SEED_VALUE": "--seeds says how many seeds there are",
    "config.DATA.TRAIN.DATA_PATHS": "--dataset says what is trained on",
    "config.CHECKPOINT.DIR": "--out says where runs go",
}


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuses what is no override, or says what the call says itself; needs no framework.

    Args:
        overrides: As they were typed.

    Raises:
        UserError: Names the first such word.
    """
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            meant = "quote a value that has spaces"
            if text in table_names():
                meant = "a call runs one table"
            raise UserError(f"{text}: overrides of trainings must be KEY=VALUE; {meant}")
        reason = _SAID_OTHERWISE.get(text.partition("=")[0].lstrip("+~"))
        if reason:
            raise UserError(f"{text}: {reason}: leave this out (see --help)")


def check_trainings(
    table: PaperTable, plan: ReproducePlan, rows: Collection[str] | None = None
) -> None:
    """Refuses overrides that no training of a table can be begun with.

    Those that some rows take are no fault: the others, of other methods, fail on their own.

    Args:
        table: The table.
        plan: What the user asks for.
        rows: Names of the rows that will be run; None for all.

    Raises:
        UserError: What is wrong with them, as the first row's training would say it.
    """
    if not plan.overrides:
        return
    check_overrides(plan.overrides)
    trained = [row for row in table.rows if is_trained(row)]
    if not trained:
        raise UserError(
            f"{plan.overrides[0]}: overrides are of trainings, and no row of {table.name} has "
            "one: leave it out"
        )
    # Rows that are asked for may train nothing; the same call with others would.
    asked = [row for row in trained if rows is None or row.name in rows] or trained
    bare, blamed = dataclasses.replace(plan, overrides=()), None
    for row in asked:
        fault = _fault(row, plan)
        if fault is None:
            return
        # What is wrong with a row in any case, as masks that are not there, it says itself.
        if blamed is None and str(_fault(row, bare)) != str(fault):
            blamed = fault
    if blamed is not None:
        raise blamed


def _fault(row: Experiment, plan: ReproducePlan) -> UserError | None:
    """What a training would object to before it looks at data and machine."""
    try:
        run = plan_run(row, plan, 0)
    except UserError as error:
        return error
    return _fault_of_values(run.config, run.overrides)


@lru_cache(maxsize=512)
def _fault_of_values(config: str, overrides: tuple[str, ...]) -> UserError | None:
    """Memoization: a command refuses before it says anything, and what it calls sees to it."""
    from vice.plugins.vissl.config.checks import check_values
    from vice.plugins.vissl.config.compose import compose
    from vice.plugins.vissl.option_keys import spelled

    try:
        with spelled():
            check_values(compose([f"config={config}", *overrides]))
    except UserError as error:
        return error
    return None
