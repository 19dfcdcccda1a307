"""Results in the place of others: what is said, and which files go."""

from __future__ import annotations

import json
import os

import pytest

from vice.evaluation.replaced import tell_replaced

RESULT = {
    "kind": "clusters",
    "spec": "lab",
    "seed": 0,
    "protocol": {"name": "native", "hash": "0123"},
    "arguments": {"clusters": [4], "out_dir": "a", "workers": 2},
    "clusters": {"4": {"miou": 0.5}},
    "seconds": 3,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"seconds": 4}, ""),
        ({"arguments": {"clusters": (4,), "out_dir": "b", "workers": 0, "device": "cpu"}}, ""),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"spec": "x", "protocol": {"name": "native", "hash": "4567"}},
         "protocol.hash was 0123, is 4567, spec was lab, is x"),
    ],
)  # fmt: skip
def test_what_differs_is_said(change, said, tmp_path, caplog):
    (tmp_path / "results.json").write_text(json.dumps(RESULT))
    tell_replaced(tmp_path, {**RESULT, **change})
    assert caplog.text.strip().endswith(said) and bool(caplog.text) == bool(said)


def test_files_of_other_numbers_of_clusters_go(tmp_path, caplog):
    mine = ("notes_4.txt", "centroids.safetensors", "xmapping_4.json", "results.json")
    theirs = ("centroids_4.safetensors", "mapping_4.json", "confusion_4_greedy.png")
    ours = ("centroids_5.safetensors", "mapping_5.json", "confusion_5_greedy.png")
    for name in (*mine, *theirs, *ours):
        (tmp_path / name).write_text(json.dumps(RESULT))
    now = {**RESULT, "arguments": {"clusters": [5]}, "clusters": {"5": {}}}
    tell_replaced(tmp_path, now)
    assert "arguments.clusters was [4], is [5]" in caplog.text
    assert sorted(os.listdir(tmp_path)) == sorted([*mine, *ours])


@pytest.mark.parametrize("there", [None, "no JSON", "[]"])
def test_where_there_were_none_nothing_is_said(there, tmp_path, caplog):
    if there is not None:
        (tmp_path / "results.json").write_text(there)
    tell_replaced(tmp_path, RESULT)
    assert not caplog.text
