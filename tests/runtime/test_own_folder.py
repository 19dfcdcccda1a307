"""Files of somebody else in an output folder are not written over."""

from __future__ import annotations

import json
import os

import pytest

from vice.errors import UserError
from vice.runtime.own_folder import (
    keep_others,
    keep_others_from_demo,
    keep_others_from_read_outs,
    keep_others_from_results,
    keep_others_from_run,
    says,
)

RUN_FILES = (
    "train_config.yaml", "vice.safetensors", "vice.json", "architecture.json", "images.json",
    "overrides.json", "health.jsonl", "held_out.jsonl",
)  # fmt: skip


def test_a_name_that_is_taken_is_refused_unless_the_folder_is_ours(tmp_path):
    keep_others(tmp_path / "none", ["a"], ours=False)
    keep_others(tmp_path, ["a"], ours=False)
    (tmp_path / "a").symlink_to("nowhere")
    (tmp_path / "b").mkdir()
    for name in ("a", "b"):
        with pytest.raises(UserError, match=f"{name} holds something else.*another output folder"):
            keep_others(tmp_path, [name], ours=False)
        keep_others(tmp_path, [name], ours=True)


@pytest.mark.parametrize("content", ["precious", "[1]", "{}", '{"other": 1}', ""])
def test_a_record_is_known_by_its_entries(tmp_path, content):
    path = tmp_path / "record.json"
    assert not says(path, ["kind"])
    path.write_text(content)
    assert not says(path, ["kind"])
    path.write_text(json.dumps({"kind": None, "more": 2}))
    assert says(path, ["protocol", "kind"])


def test_what_is_no_plain_file_is_no_record(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nested").write_text("[" * 100_000)
    assert not any(says(tmp_path / name, ["kind"]) for name in ("pipe", "nested", ".", "none"))


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_training_writes_over_no_file_of_somebody_else(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(UserError, match=f"{name} holds something else"):
        keep_others_from_run(tmp_path)


@pytest.mark.parametrize(
    ("mark", "content"),
    [(".lock", ""), (".launch.lock", ""), ("model_phase0.torch", ""),
     ("train_config.yaml", "VICE: {}\n")],
)  # fmt: skip
def test_a_run_is_known(tmp_path, mark, content):
    (tmp_path / "vice.safetensors").write_text("weights")
    (tmp_path / mark).write_text(content)
    keep_others_from_run(tmp_path)


@pytest.mark.parametrize("content", ["precious", "VICE", "- VICE", "a: [", "3"])
def test_a_configuration_of_something_else_is_none(tmp_path, content):
    (tmp_path / "train_config.yaml").write_text(content)
    with pytest.raises(UserError, match="holds something else"):
        keep_others_from_run(tmp_path)


@pytest.mark.parametrize("name", ["results.json", "per_image.npz", "samples.png", "confusion.png"])
def test_an_evaluation_writes_over_no_file_of_somebody_else(tmp_path, name):
    (tmp_path / name).write_text('{"precious": 1}')
    with pytest.raises(UserError, match=f"{name} holds something else"):
        keep_others_from_results(tmp_path)
    # Of an evaluation that was stopped, or whose results were damaged later.
    (tmp_path / "runner").mkdir()
    keep_others_from_results(tmp_path)
    (tmp_path / "runner").rmdir()
    (tmp_path / "results.json").write_text('{"protocol": {}}')
    keep_others_from_results(tmp_path)


RESULT = '{"kind": "linear", "protocol": {}}'
READ_OUTS = ("linear", "clusters", "retrieval", "position", "boundaries/5", "boundaries/own")


def result(folder, content=RESULT):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(content)


@pytest.mark.parametrize("names", [[name] for name in READ_OUTS] + [READ_OUTS])
def test_one_evaluation_and_several_are_not_mixed(names, tmp_path):
    """Whichever is there; each is written over by its like."""
    kinds = ("linear", "clusters", "retrieval", "position")
    for name in names:
        result(tmp_path / "several" / name)
        # Itself again, one of its folders, and a folder beside the others.
        keep_others_from_results(tmp_path / "several" / name)
    keep_others_from_read_outs(tmp_path / "several", kinds)
    keep_others_from_results(tmp_path / "several" / "another")
    with pytest.raises(UserError, match=r"several evaluations \(.*results.json\), and this is one"):
        keep_others_from_results(tmp_path / "several")
    result(tmp_path / "one")
    keep_others_from_results(tmp_path / "one")
    with pytest.raises(UserError, match="one holds the results of one evaluation"):
        keep_others_from_read_outs(tmp_path / "one", kinds)
    # A folder in which both lie is known by what asks.
    result(tmp_path / "several")
    keep_others_from_results(tmp_path / "several")
    with pytest.raises(UserError, match="several holds the results of one evaluation"):
        keep_others_from_read_outs(tmp_path / "several", kinds)


def test_what_is_no_result_does_not_stand_in_the_way(tmp_path):
    result(tmp_path / "out" / "notes", '{"precious": 1}')
    result(tmp_path / "out" / "runner")
    result(tmp_path / "out" / "maps")
    keep_others_from_results(tmp_path / "out")
    keep_others_from_read_outs(tmp_path / "out", ["linear"])
    keep_others_from_results(tmp_path / "none")
    keep_others_from_read_outs(tmp_path / "none", ["linear"])


def test_results_of_the_demo_and_of_evaluations_are_told_apart(tmp_path):
    result(tmp_path / "demo", '{"training": {}, "versions": {}}')
    keep_others_from_demo(tmp_path / "demo")
    for refuse in (keep_others_from_results, lambda folder: keep_others_from_read_outs(folder, [])):
        with pytest.raises(UserError, match="choose another output folder"):
            refuse(tmp_path / "demo")
    result(tmp_path / "one")
    with pytest.raises(UserError, match="holds something else"):
        keep_others_from_demo(tmp_path / "one")
