"""Files of somebody else in an output folder are not written over."""

from __future__ import annotations

import json
import os

import pytest

from vice.errors import UserError
from vice.runtime.own_folder import (
    keep_others,
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
