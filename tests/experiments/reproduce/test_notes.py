"""What stands under a table of settings is what its trainings and evaluations are asked for."""

from __future__ import annotations

import dataclasses
import re
from itertools import product

import pytest

from tests.helpers.variations import variations

pytest.importorskip("vissl")

from vice.evaluation.protocol_effects import without_effect
from vice.evaluation.task import resolve_protocol
from vice.experiments.reproduce import evaluations
from vice.experiments.reproduce.evaluations import CLASSES, evaluate
from vice.experiments.reproduce.notes import changes, evaluated
from vice.experiments.reproduce.plan import ReproducePlan, composed, plan_run
from vice.experiments.reproduce.tables import key_of, load_scale, load_table, table_names

SCALES = ("tiny", "small", "quick", "full")
#: Rows that set, on their own, what a scale sets as well, and methods without some options.
ROWS = {
    "photographs": ["ViCE", "half the epochs", "twice the epochs", "colours as they are", "PiCIE"],
    "methods": ["ViCE, representatives", "MDC", "the same network before training", "STEGO"],
    "scratch": ["from ImageNet", "from scratch"],
    "backbones": ["COCO, low resolution, ResNet-50", "Cityscapes, high resolution, ResNet-101"],
    "timing": ["ViCE"],
}


def told(lines, what, row):
    """Settings as the lines of a row and of all rows say them, split by name."""
    found = {}
    for line in lines:
        match = re.fullmatch(rf"- {re.escape(what)}(?:, (.*'))?: (.*)", line)
        if match and (match[1] is None or repr(row) in match[1].split("; ")):
            for part in re.split(r", (?=[\w.]+[= ])", match[2]):
                name, value = re.split("[= ]", part, maxsplit=1)
                assert name not in found
                found[name] = value
    return found


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", table_names())
def test_evaluations_are_asked_for_what_is_told(name, scale, stripes, tmp_path, monkeypatch):
    table = load_table(name)
    plan = ReproducePlan(tmp_path, load_scale(scale), datasets={"*": str(stripes)})
    lines, asked = evaluated(table, plan), []

    def take(kind, spec, seed, out, plan, arguments):
        asked.append((kind, arguments))
        return {}

    monkeypatch.setattr(evaluations, "_evaluate", take)
    monkeypatch.setattr(evaluations, "_share_passes", lambda *given: None)
    monkeypatch.setattr(evaluations, "readouts", lambda result: {})
    labels = {label for row in table.rows for label in row.evaluate}
    heads = {re.match(r"- (.*?)(?: \(\w+\))?(?:, '.*')?: \w+=", line)[1] for line in lines}
    assert heads == labels
    for row in table.rows:
        asked.clear()
        timed = {label for label, said in row.evaluate.items() if said["kind"] == "timing"}
        kept = {label: said for label, said in row.evaluate.items() if label not in timed}
        evaluate(dataclasses.replace(row, evaluate=kept), "lab", 0, tmp_path / "eval", plan)
        for (label, said), (kind, arguments) in zip(kept.items(), asked, strict=True):
            what = label if label == kind else f"{label} ({kind})"
            shown = told(lines, what, row.name)
            changed = arguments.pop("changes", {})
            data = arguments["dataset"]
            protocol = resolve_protocol(arguments.pop("protocol", None), data, changed)
            vain = without_effect(kind, protocol)
            if CLASSES in said.get("clusters", ()):
                arguments["clusters"] = said["clusters"]
            expected = {"protocol": protocol.name, **arguments}
            expected |= {key: getattr(protocol, key) for key in changed if key not in vain}
            expected.pop("cache_bytes", None)
            assert shown == {key: str(value) for key, value in expected.items()}
        for label in timed:
            images = str(evaluations.arguments_of(row, label, plan)["images"])
            assert told(lines, label, row.name) == {"images": images}


@pytest.mark.parametrize(
    ("name", "scale", "given"),
    variations(
        product(ROWS, ("tiny", "small", "quick"), [(), ("config.OPTIMIZER.num_epochs=3",)]), 5
    ),
)
def test_trainings_are_asked_for_what_is_told(name, scale, given, tmp_path):
    table = load_table(name)
    rows = tuple(row for row in table.rows if row.name in ROWS[name])
    assert len(rows) == len(ROWS[name])
    table = dataclasses.replace(table, rows=rows)
    plan = ReproducePlan(tmp_path, load_scale(scale), overrides=given)
    bare = dataclasses.replace(plan, scale=load_scale("full"))
    lines = changes(table, plan)
    keys = {key_of(text).removeprefix("config.") for text in plan.scale.train}
    for row in rows:
        runs = [plan_run(row, each, 0) for each in (plan, bare)]
        config, unscaled = (composed(run.config, run.overrides)["config"] for run in runs)
        shown = told(lines, "training", row.name)
        values = {key: at(config, key) for key in keys}
        assert set(shown) == {key for key, value in values.items() if value is not MISSING}
        for key, text in shown.items():
            words = {True: "true", False: "false", None: "null"}
            exact = isinstance(values[key], bool) or values[key] is None
            assert text == (words[values[key]] if exact else str(values[key]))
        for key, factor in told(lines, "factors on what the papers use", row.name).items():
            scaled = float(factor) * at(unscaled, key)
            assert at(config, key) == pytest.approx(scaled, abs=0.51)
    if scale == "quick":
        assert not any(line.startswith(("- training", "- factors")) for line in lines)


MISSING = object()


def at(nested, key):
    for part in key.split("."):
        if not isinstance(nested, dict) or part not in nested:
            return MISSING
        nested = nested[part]
    return nested


def test_a_table_without_trainings_tells_of_none(tmp_path):
    for scale in SCALES:
        assert changes(load_table("frozen"), ReproducePlan(tmp_path, load_scale(scale))) == []


def test_another_start_of_fine_tuning_is_told(tmp_path):
    table = load_table("few_shot")
    table = dataclasses.replace(table, rows=table.rows[:1])
    (line,) = changes(table, ReproducePlan(tmp_path, load_scale("small")))
    spec, said = table.rows[0].spec, load_scale("small").finetuned
    assert line == f"- from ImageNet: {said} in place of {spec}"
