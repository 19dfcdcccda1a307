"""Results in the place of others: what is said, and which files go."""

from __future__ import annotations

import json
import os

import pytest

from vice.evaluation.replaced import tell_beside, tell_replaced

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
        ({"dataset": {"found": [{"place": "p" * 90}]}}, "dataset.found is another"),
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


WRITTEN = {
    "clusters": {
        "clusters": {"4": {}}, "pictures": ["confusion_4_greedy.png"], "samples": "samples.png",
        "maps": ["maps/clusters_4/a.png", "maps/clusters_4/sub/b.png"],
    },
    "linear": {
        "linear": {}, "pictures": ["confusion.png"], "samples": "samples.png",
        "maps": ["maps/linear/a.png"],
    },
    "retrieval": {
        "retrieval": {}, "pictures": ["confusion_hungarian_iou.png"], "samples": "samples.png",
        "maps": ["maps/retrieval/a.png"], "subset": {"file": "subset.txt"},
    },
    "boundaries": {"boundaries": {}},
}  # fmt: skip
BESIDE = {"clusters": ["centroids_4.safetensors", "mapping_4.json", "counts.json"]}


def written(kind):
    result = WRITTEN[kind]
    of_subset = [result["subset"]["file"]] if "subset" in result else []
    named = [*result.get("pictures", ()), *result.get("maps", ()), result.get("samples")]
    return {*filter(None, named), *of_subset, *BESIDE.get(kind, ())}


@pytest.mark.parametrize("now", WRITTEN)
@pytest.mark.parametrize("then", WRITTEN)
def test_of_another_kind_only_its_own_files_stay(then, now, tmp_path, caplog):
    mine = {"maps/linear/mine.txt", "notes.png", "runner/log.txt"}
    for name in written(then) | written(now) | mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "results.json").write_text(json.dumps({"kind": then, **WRITTEN[then]}))
    tell_replaced(tmp_path, {"kind": now, **WRITTEN[now]})
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert files - {"results.json"} == written(now) | mine
    if then == "clusters" != now:
        assert not (tmp_path / "maps" / "clusters_4").exists()
    gone = len(written(then) - written(now))
    assert (f"; {gone} of its files are removed" in caplog.text) is bool(gone)


@pytest.mark.parametrize(
    "name", ["../mine.png", "maps/../../mine.png", "maps/x/../../../mine.png", 3]
)
def test_what_no_evaluation_writes_is_never_removed(name, tmp_path):
    (tmp_path / "mine.png").write_text("")
    folder = tmp_path / "out"
    (folder / "maps" / "x").mkdir(parents=True)
    before = {"kind": "linear", "pictures": [name], "maps": [name], "samples": name, "subset": 3}
    (folder / "results.json").write_text(json.dumps(before))
    tell_replaced(folder, {"kind": "boundaries"})
    assert (tmp_path / "mine.png").exists()


@pytest.mark.parametrize(
    ("kinds", "spec", "dataset", "said"),
    [
        (["linear"], "a", "set", ""),
        (["linear"], "b", "set", "boundaries/5 (a, set), clusters (a, set)"),
        (["linear"], "a", "other", "boundaries/5 (a, set), clusters (a, set)"),
        (["clusters"], "b", "set", "boundaries/5 (a, set)"),
        (["clusters", "boundaries"], "b", "set", ""),
    ],
)
def test_read_outs_of_another_model_beside_are_told(kinds, spec, dataset, said, tmp_path, caplog):
    result = {"kind": "clusters", "spec": "a", "arguments": {"dataset": "set"}}
    for place in ("clusters", "boundaries/5"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "results.json").write_text(json.dumps(result))
    tell_beside(tmp_path, kinds, spec, dataset)
    assert caplog.text.strip().endswith(f"beside the new ones: {said}" if said else "")
    assert bool(caplog.text) is bool(said)
