from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from vice.experiments.reproduce.notes import changes, evaluated
from vice.experiments.reproduce.outcome import Outcome, RowOutcome
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.report import LABEL_FREE, to_markdown, write_report
from vice.experiments.reproduce.tables import Experiment, PaperTable, load_scale
from vice.experiments.reproduce.trainings import computed_in

ROWS = (
    Experiment("base", "vice/demo", evaluate={"linear": {"kind": "linear"}}),
    Experiment(
        "other",
        "vice/demo",
        evaluate={"linear": {"kind": "linear"}},
        published={"linear": {"difference": -1.5}, "training": "5 h"},
    ),
    Experiment("theirs", published={"linear": {"miou": 14.77, "accuracy": 54.75}}, source="Paper"),
)
TABLE = PaperTable("name", "Title", "P2 Table 5", "About it.", "base", ROWS)


def linear(*values):
    return [{"linear": {"miou": value, "accuracy": 0.5}} for value in values]


def outcome():
    base = RowOutcome(linear(0.4, 0.5), linear(0.4, 0.5), [2, 2], True, [10.0, 20.0], "run0")
    other = RowOutcome(linear(0.35, 0.5), linear(0.5, 0.6), [1, 2], False, [], "run1")
    return Outcome({"base": base, "other": other, "theirs": RowOutcome()})


def lines(text, name):
    text = text[text.index("| row |") :]
    return [line for line in text.splitlines() if line.startswith(f"| {name}")]


def test_means_differences_and_published_figures(tmp_path):
    text = to_markdown(TABLE, outcome(), ReproducePlan(tmp_path, load_scale("full")))
    sd = 100 * np.std([0.4, 0.5], ddof=1)
    own = f"45.00 ± {sd:.2f} / 50.00 ± 0.00"
    assert lines(text, "base")[0] == f"| base | linear | - | - | {own} | {own} (last) | 2 |"
    assert lines(text, "base")[1] == "| base | training | - | - | 15 s | - | - |"
    first, training = lines(text, "other")
    assert "| (-1.50) | P2 Table 5 |" in first
    assert f"42.50 ± {100 * np.std([0.35, 0.5], ddof=1):.2f} / 50.00 ± 0.00 (-2.50)" in first
    assert "(+10.00) (epoch 1, 2) | 2 |" in first
    assert training == "| other | training | 5 h | P2 Table 5 | - | - | - |"
    assert lines(text, "theirs") == ["| theirs | linear | 14.77 / 54.75 | Paper | - | - | - |"]
    assert "†" not in text and "No label has a say" in text


def test_other_scales_and_data_are_marked_and_told(tmp_path):
    pytest.importorskip("vissl")
    plan = ReproducePlan(
        tmp_path,
        load_scale("tiny"),
        datasets={"*": "photos"},
        overrides=("config.LOG_FREQUENCY=1", "config.VICE.LOSS.epsilon=0.06"),
    )
    text = to_markdown(TABLE, outcome(), plan)
    assert "| (-1.50) † |" in text and "14.77 / 54.75 †" in text and "5 h †" in text
    told = "\n".join([*changes(TABLE, plan), *evaluated(TABLE, plan)])
    assert "VICE.VIEWS.size 0.1875" in told and "OPTIMIZER.num_epochs=2" in told
    assert "linear_iterations=60" in told and "at most 64" in told
    assert (
        "photos in place of all data sets" in told
        and "overrides: LOG_FREQUENCY=1, VICE.LOSS" in told
    )
    assert told in text
    assert changes(TABLE, ReproducePlan(tmp_path, load_scale("full"))) == []


def test_an_overview_has_a_line_a_row(tmp_path):
    found = outcome()
    found.rows["base"].passes, found.rows["base"].processor_seconds = [(10, 4), (30, 4)], [7.0, 8.0]
    found.rows["base"].label_free = [dict.fromkeys(LABEL_FREE, 0.25)]
    found.rows["other"].last[0]["27 greedy"] = {"miou": 0.125, "accuracy": 0.5}
    text = to_markdown(TABLE, found, ReproducePlan(tmp_path, load_scale("full")))
    top = text.split("| row |")[0].splitlines()
    cells = [line.strip("| ").split(" | ") for line in top if line.startswith("| ")]
    sd = 100 * np.std([0.4, 0.5], ddof=1)
    assert cells[0] == [
        "mIoU in %", "linear", "27 greedy", "NMI of views in %",
        "views there and back / forward alone", "processor seconds", "seeds",
    ]  # fmt: skip
    assert cells[2] == ["base", f"45.00 ± {sd:.2f}", "-", "25.00", "20 / 4", "8", "2"]
    assert cells[3][2:] == ["12.50", "-", "-", "-", "2"] and len(cells) == 4


def test_seconds_of_the_processor_are_told_beside_the_clock(tmp_path):
    found = outcome()
    found.rows["base"].processor_seconds = [30.0, 50.0]
    found.rows["base"].passes = [(100, 7), (100, 7)]
    text = to_markdown(TABLE, found, ReproducePlan(tmp_path, load_scale("full")))
    assert lines(text, "base")[1].split(" | ")[4] == (
        "15 s, 40 s of the processor, 100 views forward and backward, 7 forward alone"
    )


def test_a_row_without_scores_of_views_says_why(tmp_path):
    found, plan = outcome(), ReproducePlan(tmp_path, load_scale("full"))
    found.rows["base"].label_free = [dict.fromkeys(LABEL_FREE, 0.25)]
    text = to_markdown(TABLE, found, plan)
    (line,) = [line for line in text.splitlines() if "not compared by direction" in line]
    assert line.startswith("- other: ")


def test_curves_name_the_epoch_that_labels_would_choose(tmp_path):
    found, plan = outcome(), ReproducePlan(tmp_path, load_scale("full"))
    assert "Over epochs" not in to_markdown(TABLE, found, plan)
    seeds = ({1: 0.2, 2: 0.5, 3: 0.4}, {1: 0.3, 2: 0.3, 3: 0.3})
    found.rows["base"].curve = [
        {epoch: linear(value)[0] for epoch, value in seed.items()} for seed in seeds
    ]
    found.rows["other"].curve = [{1: linear(None)[0], 2: linear(0.1)[0]}]
    text = to_markdown(TABLE, found, plan)
    table = text.split("Over epochs")[1].split("\n- ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert rows[0] == ["row", "read-out", "epoch 1", "epoch 2", "epoch 3", "best by labels"]
    sd = 100 * np.std([0.5, 0.3], ddof=1)
    assert rows[2][:2] == ["base", "linear"] and rows[2][3] == f"40.00 ± {sd:.2f}"
    assert rows[2][5] == "epoch 2, 40.00"
    assert rows[3][4] == "-" and rows[3][5] == "epoch 2, 10.00"


def test_runs_that_are_one_failures_and_what_waits_are_said(tmp_path):
    found = outcome()
    found.rows["other"].run = "run0"
    found.failures.append("other, seed 1: no images")
    found.failures += [f"row: {n}, seed 0: no folder: /x" for n in range(3)]
    found.waiting.append("base, seed 0: job 7 is PENDING")
    plan = ReproducePlan(tmp_path, load_scale("full"))
    text = write_report(TABLE, found, plan).read_text()
    assert text == to_markdown(TABLE, found, plan)
    assert "| other (the same run as 'base' here) |" in text
    assert "- failed: other, seed 1: no images" in text
    assert "- failed: row: 0, seed 0 and 2 more: no folder: /x\n" in text and "row: 1" not in text
    assert "- waiting: base, seed 0: job 7 is PENDING" in text
    kept = json.loads((tmp_path / "tables" / "name-full.json").read_text())
    assert kept["rows"]["other"]["last"][1]["linear"]["miou"] == 0.5
    assert kept["plan"]["scale"]["name"] == "full"


def test_label_free_scores_and_stability_between_seeds(tmp_path):
    found = outcome()
    plan = ReproducePlan(tmp_path, load_scale("full"))
    assert "stability" not in to_markdown(TABLE, found, plan)
    base = found.rows["base"]
    names = ("perplexity_over_k", "loss_over_lnk", "agreement", "mutual_information", "cosine")
    base.label_free = [dict.fromkeys(names, 0.5), {**dict.fromkeys(names, 0.5), "cosine": 0.9}]
    values = {(0, 1): 0.2, (0, 2): 0.5, (1, 2): 0.6}
    base.stability = [
        {"seeds": [*pair], "adjusted_rand_index": v, "normalized_mutual_information": v + 0.1}
        for pair, v in values.items()
    ]
    text = to_markdown(TABLE, found, plan)
    sd = 100 * np.std(list(values.values()), ddof=1)
    _, stable, training, second = lines(text, "base")
    shown = f"ARI 43.33 ± {sd:.2f} / NMI 53.33 ± {sd:.2f}"
    assert stable == f"| base | stability between seeds | - | - | {shown} | - | 3 |"
    assert "training" in training
    half, cosine = "50.00 ± 0.00", f"70.00 ± {100 * np.std([0.5, 0.9], ddof=1):.2f}"
    assert second == f"| base | {half} | {half} | {half} | {half} | {cosine} | 2 |"
    assert "| row | perplexity / K | loss / ln K | agreement of views | NMI of views |" in text
    assert "- stability between seeds: adjusted Rand index" in text
    kept = json.loads(write_report(TABLE, found, plan).with_suffix(".json").read_text())
    assert kept["rows"]["base"]["stability"][2]["adjusted_rand_index"] == 0.6
    assert kept["rows"]["base"]["label_free"][1]["cosine"] == 0.9


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"TRUNK": {"EXECUTION": {"precision": None}}}, "float32"),
        ({"TRUNK": {"EXECUTION": {"precision": "bfloat16"}}}, "bfloat16"),
        ({"TRUNK": {"EXECUTION": {"precision": None}}, "AMP_PARAMS": {"USE_AMP": True}},
         "mixed precision"),
        ({"TRUNK": {}}, None),
        (None, None),
    ],
)  # fmt: skip
def test_what_a_run_was_computed_in_is_told(tmp_path, model, said):
    if model is not None:
        (tmp_path / "train_config.yaml").write_text(yaml.safe_dump({"MODEL": model}))
    assert computed_in(tmp_path) == said
    found = outcome()
    found.rows["base"].precisions = [said] * 2 if said else []
    text = to_markdown(TABLE, found, ReproducePlan(tmp_path, load_scale("full")))
    cell = f"15 s, in {said}" if said else "15 s"
    assert lines(text, "base")[1] == f"| base | training | - | - | {cell} | - | - |"


def test_times_are_in_milliseconds(tmp_path):
    row = Experiment("step", "vice/demo", untrained=True, published={"loss": {"milliseconds": 166}})
    table = PaperTable("t", "T", "P", "", "", (row,))
    found = Outcome({"step": RowOutcome([{"loss": {"milliseconds": 12.5}}])})
    text = to_markdown(table, found, ReproducePlan(tmp_path, load_scale("full")))
    assert "| step | loss | 166 ms | P | 12.50 ms | - | 1 |" in text


def test_notes_say_over_how_many_classes_and_what_a_matching_is(tmp_path):
    entry = {"miou": 0.5, "accuracy": 0.6, "classes_in_mean": 19, "classes": 27}
    found = RowOutcome(last=[{"linear": entry, "27 greedy": {**entry, "classes_in_mean": 17}}])
    rows = {"base": found, "theirs": RowOutcome(), "other": RowOutcome()}
    text = to_markdown(TABLE, Outcome(rows), ReproducePlan(tmp_path, load_scale("full")))
    assert "- mIoU: mean over 17 to 19 of 27 classes" in text
    assert "- greedy: Each cluster gets the class" in text and "hungarian:" not in text
