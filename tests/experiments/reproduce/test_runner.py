"""In which order rows are trained and scored, and what a table says before its end."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import pytest

from tests.helpers.untrained import make_run
from vice.errors import UserError
from vice.experiments.reproduce import runner as outcome
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.report import to_markdown
from vice.experiments.reproduce.runner import reproduce
from vice.experiments.reproduce.tables import load_scale, load_table, select_rows
from vice.experiments.reproduce.trainings import Waiting


@pytest.fixture
def events(monkeypatch):
    """Trainings and evaluations in the order in which they are asked for; none takes place."""
    found = []

    def train(so_far, row, seed, plan, failed):
        found.append(("train", row.name, seed))
        if row.name.startswith("grid") and seed == 1:
            raise UserError("no such image")
        if plan.slurm and seed == 2:
            raise Waiting("job 7 is PENDING")

    def score(table, so_far, row, seed, plan):
        found.append(("score", row.name, seed))
        so_far.last.append({"linear": {"miou": 0.25 + 0.25 * seed, "accuracy": 0.5}})

    monkeypatch.setattr(outcome, "_train", train)
    monkeypatch.setattr(outcome, "_score", score)
    monkeypatch.setattr(outcome, "_compare_seeds", lambda *asked: found.append(("compare", "", 0)))
    return found


def parts_of(tmp_path: Path, **options):
    table = select_rows(load_table("photographs"), ["ViCE", "grid*"])
    return table, ReproducePlan(tmp_path, load_scale("quick"), **options)


def test_a_row_is_scored_before_the_next_is_trained_and_each_score_is_told(events, tmp_path):
    table, plan = parts_of(tmp_path, seeds=2)
    tables = []
    found = reproduce(table, plan, lambda so_far: tables.append(to_markdown(table, so_far, plan)))
    vice, grid = (row.name for row in table.rows)
    first = [(kind, vice, seed) for seed in (0, 1) for kind in ("train", "score")]
    then = [("train", grid, 0), ("score", grid, 0), ("train", grid, 1), ("compare", "", 0)]
    assert events == [*first, *then]
    assert found.failures == [f"{grid}, seed 1: no such image"]
    # In front of two rows and more stands an overview.
    texts = [text[text.index("| row |") :] for text in tables]
    lines = [[line for line in text.splitlines() if "| linear |" in line] for text in texts]
    assert [len(rows) for rows in lines] == [1, 1, 2]
    assert "| 25.00 / 50.00 |" in lines[0][0] and "| 37.50 ± " in lines[1][0]


def test_with_slurm_all_are_submitted_before_anything_is_scored(events, tmp_path):
    table, plan = parts_of(tmp_path, seeds=3, slurm=True)
    found = reproduce(table, plan)
    kinds = [kind for kind, _, _ in events]
    assert kinds == ["train"] * 6 + ["score"] * 3 + ["compare"]
    assert len(found.waiting) == 2 and len(found.failures) == 1


def test_other_rows_are_collected_and_never_run(events, tmp_path, monkeypatch):
    table, plan = parts_of(tmp_path, seeds=2)
    vice, grid = (row.name for row in table.rows)
    recorded = outcome._score

    def score_what_is_done(table, so_far, row, seed, plan):
        if seed == 1:
            plan.require(row.name)
        assert plan.only_done == (row.name == vice)
        recorded(table, so_far, row, seed, plan)

    monkeypatch.setattr(outcome, "_score", score_what_is_done)
    found = reproduce(table, plan, rows=[grid])
    assert [len(found.rows[name].last) for name in (vice, grid)] == [1, 1]
    assert len(found.failures) == 1
    assert outcome.reported_rows(table, found, [grid]) == table
    found.rows[vice].last.clear()
    assert [row.name for row in outcome.reported_rows(table, found, [grid]).rows] == [grid]


def test_what_another_call_does_meanwhile_is_in_the_table(events, tmp_path, monkeypatch):
    table, plan = parts_of(tmp_path)
    vice, grid = (row.name for row in table.rows)
    recorded = outcome._score

    def score(table, so_far, row, seed, plan):
        if row.name == vice and ("score", grid, 0) not in events:
            plan.require(row.name)
        recorded(table, so_far, row, seed, plan)

    monkeypatch.setattr(outcome, "_score", score)
    found = reproduce(table, plan, rows=[grid])
    assert [len(found.rows[name].last) for name in (vice, grid)] == [1, 1]
    assert found.failures == []


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_run_everything_once_and_a_shared_run_in_one_of_them(
    events, tmp_path, monkeypatch, parts
):
    table, _ = parts_of(tmp_path)
    vice, grid = table.rows
    again = dataclasses.replace(vice, name="ViCE, read otherwise")
    frozen = dataclasses.replace(grid, name="Lab", config=None, spec="lab")
    lab = dataclasses.replace(frozen, name="Lab again")
    table = dataclasses.replace(table, rows=(vice, frozen, again, grid, lab))

    def place(row, seed, plan):
        return None, tmp_path / f"{row.name.partition(',')[0]}-seed{seed}", None

    monkeypatch.setattr(outcome, "_place", place)
    recorded, collected = outcome._train, []

    def train(so_far, row, seed, plan, failed):
        if plan.only_done:
            collected.append((row.name, seed))
            plan.require(row.name)
        recorded(so_far, row, seed, plan, failed)

    monkeypatch.setattr(outcome, "_train", train)
    asked = {(row.name, seed) for row in table.rows for seed in range(3)}
    done: list[set] = []
    for k in range(1, parts + 1):
        events.clear()
        collected.clear()
        plan = ReproducePlan(tmp_path, load_scale("quick"), seeds=3, part=(k, parts))
        reproduce(table, plan)
        done.append({(name, seed) for kind, name, seed in events if kind == "train"})
        assert done[-1] | set(collected) == asked and not done[-1] & set(collected)
    assert sum(map(len, done)) == len(asked) and set().union(*done) == asked
    for seed in range(3):
        for pair in ((vice, again), (frozen, lab)):
            shared = {(row.name, seed) for row in pair}
            assert sum(bool(shared & part) for part in done) == 1


@pytest.mark.parametrize("slurm", [False, True])
def test_a_call_waits_for_another_that_works_on_the_same_run(
    stripes, tmp_path, monkeypatch, caplog, slurm
):
    """Rows that differences are to come along, so two calls for other rows share one."""
    pytest.importorskip("vissl")
    table, plan = parts_of(tmp_path, slurm=slurm, datasets={"*": str(stripes)})
    order, begun, end = [], threading.Event(), threading.Event()

    def train(so_far, row, seed, plan, failed):
        name = threading.current_thread().name
        order.append(f"{name} begins {row.name}")
        begun.set()
        assert name == "second" or end.wait(60)
        order.append(f"{name} ends {row.name}")

    monkeypatch.setattr(outcome, "_train", train)
    monkeypatch.setattr(outcome, "_score", lambda *asked: None)
    threads = [
        threading.Thread(target=reproduce, args=(table, plan), name=name)
        for name in ("first", "second")
    ]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    while "waiting for process" not in caplog.text:
        assert threads[1].is_alive()
        time.sleep(0.05)
    end.set()
    for thread in threads:
        thread.join(60)
    first = table.rows[0].name
    assert order[:2] == [f"first begins {first}", f"first ends {first}"]
    for row in table.rows:
        assert {f"second begins {row.name}", f"second ends {row.name}"} <= set(order)


def test_what_would_have_to_be_computed_is_not(stripes, tmp_path):
    pytest.importorskip("vissl")
    table = load_table("photographs")
    plan = ReproducePlan(tmp_path, load_scale("tiny"), datasets={"*": str(stripes)}, device="cpu")
    found = reproduce(table, plan, rows=[])
    assert not any(row.last for row in found.rows.values())
    assert not found.failures and not (tmp_path / "runs").exists()
    assert not (tmp_path / "eval").exists()


CHOICES = {0: {"epoch": 2, "last": False}, 1: {"epoch": 4, "last": True}}


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Folders of the evaluations that were made, in order; of each seed its choice is known."""
    run, made = make_run(tmp_path / "run"), {}

    def evaluate(row, spec, seed, folder, plan):
        key = row.name, folder.name, seed
        if key not in made:
            plan.require(folder)
        value = {"last": 0.5, "epoch2": 0.75}[folder.name]
        return made.setdefault(key, {"linear": {"miou": value, "accuracy": 0.25}})

    monkeypatch.setattr(outcome, "evaluate", evaluate)
    monkeypatch.setattr(
        outcome,
        "choose",
        lambda row, folder, seed, plan: {"path": str(run / "model.torch"), **CHOICES[seed]},
    )
    monkeypatch.setattr(outcome, "can_compare", lambda folder: False)
    monkeypatch.setattr(outcome, "_train", lambda *asked: None)
    monkeypatch.setattr(outcome, "_place", lambda *asked: (None, run, None))
    return made


def cell_of(table, plan, rows):
    """The last checkpoint, the choice and the number of seeds of the first row."""
    found = reproduce(table, plan, rows=rows)
    assert not found.failures
    text = to_markdown(table, found, plan)
    (line,) = [x for x in text.splitlines() if x.startswith(f"| {table.rows[0].name} | linear |")]
    return line.split(" | ")[4:], "that checkpoint is not scored" in text


def test_the_chosen_epoch_is_named_and_scored_unless_that_is_not_asked_for(scored, tmp_path):
    table, plan = parts_of(tmp_path)
    last_only, first = dataclasses.replace(plan, last_only=True), [table.rows[0].name]
    assert cell_of(table, last_only, first) == (["50.00 / 25.00", "- (epoch 2)", "1 |"], True)
    # Of the other rows stands what is done, and nothing is done for it.
    assert set(scored) == {(*first, "last", 0)}
    assert cell_of(table, plan, []) == (["50.00 / 25.00", "- (epoch 2)", "1 |"], True)
    chosen = ["50.00 / 25.00", "75.00 / 25.00 (epoch 2)", "1 |"]
    assert cell_of(table, plan, first) == (chosen, False)
    assert set(scored) == {(*first, "last", 0), (*first, "epoch2", 0)}
    assert cell_of(table, last_only, first) == cell_of(table, last_only, []) == (chosen, False)


def test_the_mean_of_chosen_epochs_is_of_all_seeds_or_none(scored, tmp_path):
    table, plan = parts_of(tmp_path, seeds=2, last_only=True)
    first = [table.rows[0].name]
    means = cell_of(table, plan, first)
    assert means == (["50.00 ± 0.00 / 25.00 ± 0.00", "- (epoch 2, 4)", "2 |"], True)
    (_, chosen, _), missing = cell_of(table, dataclasses.replace(plan, last_only=False), first)
    assert chosen.startswith("62.50 ± ") and chosen.endswith(" (epoch 2, 4)") and not missing


def test_a_choice_that_is_the_last_has_its_scores(scored, tmp_path, monkeypatch):
    monkeypatch.setitem(CHOICES, 0, {"epoch": 4, "last": True})
    table, plan = parts_of(tmp_path, last_only=True)
    shown = ["50.00 / 25.00", "50.00 / 25.00 (last)", "1 |"]
    assert cell_of(table, plan, [table.rows[0].name]) == (shown, False)
