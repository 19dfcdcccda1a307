"""Runs a table: trains, chooses, scores, and goes on where a row fails."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from vice.errors import UserError, one_line
from vice.experiments.reproduce.announce import announce_datasets
from vice.experiments.reproduce.evaluations import (
    Scores,
    arguments_of,
    evaluate,
)
from vice.experiments.reproduce.label_free import can_compare, choose, last_scores, stability
from vice.experiments.reproduce.outcome import Outcome, RowOutcome
from vice.experiments.reproduce.overrides import check_trainings
from vice.experiments.reproduce.plan import (
    NotDone,
    NoWeights,
    ReproducePlan,
    Run,
    composed,
    frozen_spec,
    plan_run,
    run_folder,
)
from vice.experiments.reproduce.tables import Experiment, PaperTable
from vice.experiments.reproduce.trainings import (
    Waiting,
    computed_in,
    ensure_trained,
    passes,
    training_seconds,
)
from vice.models.training_state import states_of_epochs
from vice.runtime.folder_lock import sole_writer
from vice.runtime.progress import progress

logger = logging.getLogger(__name__)


def reproduce(
    table: PaperTable,
    plan: ReproducePlan,
    on_row: Callable[[Outcome], None] = lambda outcome: None,
    rows: Collection[str] | None = None,
) -> Outcome:
    """Runs what of a table is not done yet, and collects everything.

    A row is trained and scored before the next one begins, so that whoever stops a table has whole
    rows. With SLURM, all trainings are submitted before anything is scored.

    Args:
        table: The table.
        plan: At which scale, on what, with how many seeds.
        on_row: Gets the outcome so far, each time a seed of a row is scored.
        rows: Names of the rows to be run; of the others only what is done is collected. None runs
            all.

    Returns:
        Scores, and what failed or waits; a row that fails ends no other.

    Raises:
        UserError: As `check_trainings`.
    """
    check_trainings(table, plan, rows)
    announce_datasets(table, plan, rows)
    outcome = Outcome({row.name: RowOutcome() for row in table.rows})
    work = [(row, seed) for row in table.rows for seed in range(plan.seeds) if _has_work(row)]
    scored: dict[str, list[int]] = {}
    # Memoization: a run that several rows share is tried once.
    failed: dict[Path, Exception] = {}

    def trained(row: Experiment, seed: int) -> bool:
        work_on = partial(_train, outcome, row, seed, plan, failed)
        return _guarded(outcome, f"{row.name}, seed {seed}", work_on)

    def submitted(row: Experiment, seed: int) -> bool:
        with _alone_with(row, seed, plan):
            return trained(row, seed)

    mine = [pair for pair in work if rows is None or pair[0].name in rows]
    if plan.part is not None:
        mine = _of_part(mine, plan, plan.part)
    others = [pair for pair in work if pair not in mine]
    _collect(table, outcome, others, plan, scored)
    work = mine
    if plan.slurm:
        asked = progress(work, len(work), f"{table.name}: trainings", every_seconds=0)
        work = [pair for pair in asked if submitted(*pair)]
    for row, seed in progress(work, len(work), table.name, every_seconds=0):
        score = partial(_score, table, outcome.rows[row.name], row, seed, plan)
        with _alone_with(row, seed, plan):
            ready = plan.slurm or trained(row, seed)
            done = ready and _guarded(outcome, f"{row.name}, seed {seed}", score)
        if done:
            scored.setdefault(row.name, []).append(seed)
            on_row(outcome)
    # Other calls may have been at work beside this one.
    left = [(row, seed) for row, seed in others if seed not in scored.get(row.name, [])]
    _collect(table, outcome, left, plan, scored)
    for row in table.rows:
        seeds = scored.get(row.name, [])
        compared = row.config is not None and not (row.untrained or row.initial)
        if len(seeds) > 1 and compared:
            # Of seeds that several processes train, the call that comes last compares them.
            other = plan.part is not None or (rows is not None and row.name not in rows)
            only_done = plan.only_done or other
            seed_plan = dataclasses.replace(plan, only_done=only_done)
            compare = partial(_compare_seeds, outcome.rows[row.name], row, seeds, seed_plan)
            _guarded(outcome, f"{row.name}, stability between seeds", compare)
    return outcome


def _collect(
    table: PaperTable,
    outcome: Outcome,
    work: Sequence[tuple[Experiment, int]],
    plan: ReproducePlan,
    scored: dict[str, list[int]],
) -> None:
    """What is done of some rows; nothing is said of what is not, or could not be."""
    only_done = dataclasses.replace(plan, only_done=True, slurm=False)
    for row, seed in work:
        with suppress(NotDone, NoWeights, UserError):
            _train(outcome, row, seed, only_done, {})
            _score(table, outcome.rows[row.name], row, seed, only_done)
            scored.setdefault(row.name, []).append(seed)


def _of_part(
    work: Sequence[tuple[Experiment, int]], plan: ReproducePlan, part: tuple[int, int]
) -> list[tuple[Experiment, int]]:
    """The rows and seeds of a part; those that share a run, or an embedder, are never in two."""
    k, n = part
    runs: dict[object, list[tuple[Experiment, int]]] = {}
    for row, seed in work:
        runs.setdefault(_run_of(row, seed, plan), []).append((row, seed))
    return [pair for shared in list(runs.values())[k - 1 :: n] for pair in shared]


def _run_of(row: Experiment, seed: int, plan: ReproducePlan) -> object:
    return _run_folder(row, seed, plan) or (row.spec or row.name, seed)


def _run_folder(row: Experiment, seed: int, plan: ReproducePlan) -> Path | None:
    """Where a row is trained; None for one that is not, or cannot be."""
    if row.config is not None and not row.untrained:
        # What is wrong with a row is said where it is trained.
        with suppress(UserError):
            return _place(row, seed, plan)[1]
    return None


@contextmanager
def _alone_with(row: Experiment, seed: int, plan: ReproducePlan) -> Iterator[None]:
    """Waits for another call that works on the same run or embedder: what it has done is taken."""
    folder = _run_folder(row, seed, plan)
    name = "" if folder is None else folder.name
    if row.config is None and not row.untrained:
        with suppress(NoWeights):
            name = _plain(frozen_spec(row, plan))
    with sole_writer(plan.out / "eval" / name, math.inf) if name else nullcontext():
        yield


def reported_rows(table: PaperTable, outcome: Outcome, rows: Collection[str]) -> PaperTable:
    """A table without the rows that were not asked for and of which nothing is done.

    Args:
        table: The table.
        outcome: What `reproduce` gives.
        rows: Names of the rows that were asked for.
    """
    kept = [row for row in table.rows if row.name in rows or outcome.rows[row.name].last]
    return dataclasses.replace(table, rows=tuple(kept))


def _has_work(row: Experiment) -> bool:
    return bool(row.evaluate) and (row.config is not None or row.spec is not None)


def _guarded(outcome: Outcome, where: str, work: Callable[[], None]) -> bool:
    """Whether work on a row has succeeded; otherwise the outcome says why not."""
    try:
        work()
    except (NotDone, NoWeights):
        return False
    except Waiting as state:
        outcome.waiting.append(f"{where}: {state}")
    except UserError as error:
        outcome.failures.append(f"{where}: {one_line(error)}")
    # Catch-all: whatever happens to one row, hours of work on the others must not be lost.
    except Exception as error:
        logger.exception("%s failed", where)
        last = str(error).strip().splitlines()[-1:]
        outcome.failures.append(f"{where}: {' '.join([type(error).__name__ + ':', *last])}")
    else:
        return True
    return False


def _train(
    outcome: Outcome, row: Experiment, seed: int, plan: ReproducePlan, failed: dict[Path, Exception]
) -> None:
    if row.config is None or row.untrained:
        return
    run, folder, images = _place(row, seed, plan)
    outcome.rows[row.name].run = outcome.rows[row.name].run or folder.name
    if folder in failed:
        raise failed[folder]
    try:
        ensure_trained(run, folder, images, plan)
    except Exception as error:
        failed[folder] = error
        raise


def _place(row: Experiment, seed: int, plan: ReproducePlan) -> tuple[Run, Path, Path]:
    run = plan_run(row, plan, seed)
    folder, images = run_folder(run, row, plan)
    return run, folder, images


def _views(table: PaperTable, row: Experiment, plan: ReproducePlan) -> Mapping[str, Any]:
    """``VICE`` of the training whose views a row is measured in without labels."""
    known = {each.name: each for each in table.rows if each.config is not None}
    run = plan_run(known.get(table.baseline, row), plan, 0)
    return dict(composed(run.config, run.overrides)["config"]["VICE"])


def _score(
    table: PaperTable, outcome: RowOutcome, row: Experiment, seed: int, plan: ReproducePlan
) -> None:
    if row.untrained:
        plan.require(row.name)
        outcome.last.append(_time(row, seed, plan))
        return
    if row.config is None:
        _score_frozen(outcome, row, seed, plan)
        return
    _, folder, _ = _place(row, seed, plan)
    results_folder = plan.out / "eval" / folder.name
    if row.initial:
        initial = (row, f"random:{folder}", seed, results_folder / "initial", plan)
        outcome.take(evaluate(*initial), *initial)
        return
    asked = (row, str(folder), seed, results_folder / "last", plan)
    last = evaluate(*asked)
    choice = choose(row, folder, seed, plan)
    comparable = can_compare(folder)
    label_free = last_scores(row, folder, _views(table, row, plan), plan) if comparable else None
    curve = _curve(row, folder, seed, plan, last)
    outcome.take(last, *asked)
    if curve:
        outcome.curve.append(curve)
    outcome.chosen.append(last if choice["last"] else _chosen(row, choice, seed, plan, folder))
    if label_free is not None:
        outcome.label_free.append(label_free)
    outcome.epochs.append(choice["epoch"])
    outcome.same = outcome.same and choice["last"]
    taken = training_seconds(folder)
    if "seconds" in taken:
        outcome.seconds.append(taken["seconds"])
    if "processor_seconds" in taken:
        outcome.processor_seconds.append(taken["processor_seconds"])
    if (counted := passes(folder)) is not None:
        outcome.passes.append(counted)
    if (precision := computed_in(folder)) is not None:
        outcome.precisions.append(precision)


def _chosen(
    row: Experiment, choice: Mapping[str, Any], seed: int, plan: ReproducePlan, run_dir: Path
) -> Scores:
    """Scores of an earlier checkpoint that is chosen; empty if not there and not asked for."""
    place = plan.out / "eval" / run_dir.name / f"epoch{choice['epoch']}"
    only_done = dataclasses.replace(plan, only_done=plan.only_done or plan.last_only)
    # What is known of the last checkpoint stands in the table all the same.
    with suppress(NotDone):
        return evaluate(row, choice["path"], seed, place, only_done)
    return {}


def _curve(
    row: Experiment, folder: Path, seed: int, plan: ReproducePlan, last: Scores
) -> dict[int, Scores]:
    """Scores of the checkpoints of all epochs, the last one's included; empty if not asked for."""
    if not plan.curve:
        return {}
    # Old states may have been cleared away; the exported weights are the last one's.
    *earlier, (final, _) = states_of_epochs(folder) or [(1, folder)]
    place = plan.out / "eval" / folder.name
    found = {
        epoch: evaluate(row, str(file), seed, place / f"epoch{epoch}", plan)
        for epoch, file in earlier
    }
    return {**found, final: last}


def _score_frozen(outcome: RowOutcome, row: Experiment, seed: int, plan: ReproducePlan) -> None:
    """Raises `NoWeights`, and says in the outcome why, where there is nothing to score."""
    try:
        spec = frozen_spec(row, plan)
        try:
            asked = (row, spec, seed, plan.out / "eval" / _plain(spec), plan)
            outcome.take(evaluate(*asked), *asked)
        except UserError as error:
            # Only a row that names its weights may be without them.
            if row.file and (reason := _unloadable(spec)):
                raise NoWeights(reason) from error
            raise
    except NoWeights as error:
        outcome.missing = str(error)
        raise


def _unloadable(spec: str) -> str:
    """Why an embedder cannot be loaded; empty if it can."""
    from vice.models.load import load_extractor

    try:
        load_extractor(spec)
    except UserError as error:
        return one_line(error)
    return ""


def _compare_seeds(
    outcome: RowOutcome, row: Experiment, seeds: Sequence[int], plan: ReproducePlan
) -> None:
    folders = {seed: _place(row, seed, plan)[1] for seed in seeds}
    if all(can_compare(folder) for folder in folders.values()):
        outcome.stability = stability(row, folders, plan)


def _time(row: Experiment, seed: int, plan: ReproducePlan) -> Scores:
    from vice.experiments.reproduce.step_time import time_step

    run = plan_run(row, plan, seed)
    config = composed(run.config, run.overrides)["config"]
    images = int(arguments_of(row, "timing", plan)["images"])
    parts = time_step(config, images, plan.device)
    return {name: {"milliseconds": taken} for name, taken in parts.items()}


def _plain(spec: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in spec)
