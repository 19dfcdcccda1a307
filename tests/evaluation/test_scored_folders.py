"""Folders of results: which are found, which are left out with a word, and which refused."""

from __future__ import annotations

import json

import pytest

from tests.evaluation.test_compare import clusters, linear
from vice.errors import UserError
from vice.evaluation.compare import make_tables
from vice.evaluation.scored_folders import divide_folders, read_results, spread


@pytest.mark.parametrize("kind", ["position", "boundaries", "masks"])
def test_read_outs_without_a_table_say_so(kind, tmp_path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"kind": kind, "spec": "lab"}))
    with pytest.raises(UserError, match=f"holds the read-out {kind}, which is not taken under"):
        read_results([tmp_path])


@pytest.mark.parametrize(
    "damage",
    [
        "no protocol fields",
        "score",
        "nan",
        "bytes",
        "deep",
        "interval",
        "data set",
        "iou",
        "matching",
    ],
)
def test_results_that_lack_something_are_named(damage, tmp_path) -> None:
    content, file = linear(), tmp_path / "results.json"
    if damage == "no protocol fields":
        del content["protocol"]["fields"]
    elif damage == "interval":
        content["linear"]["interval"] = {"miou": [0.1, "high"]}
    elif damage == "data set":
        content["dataset"]["name"] = 7
    elif damage == "iou":
        content["linear"]["iou_per_class"] = 0.5
    elif damage == "matching":
        content["kind"], content["clusters"] = "clusters", {"2": {"greedy": 1}}
    elif damage in ("score", "nan"):
        content["linear"]["miou"] = 55 if damage == "score" else float("nan")
    data = {"bytes": b"\xff{}", "deep": b"[" * 100_000}.get(damage, json.dumps(content).encode())
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"results\.json .*evaluate again"):
        read_results([tmp_path])


def test_what_is_no_results_directory_leads_to_those_there_are(tmp_path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "results.json").write_text(json.dumps(linear()))
    with pytest.raises(UserError, match=r"such as .*one \(1 hold results\)"):
        read_results([tmp_path])
    with pytest.raises(UserError, match="name its folder, .*one"):
        read_results([tmp_path / "one" / "results.json"])


def test_a_folder_of_results_stands_for_those_in_it(tmp_path) -> None:
    for name in ("score/linear", "score/clusters", "plain", "other/pictures"):
        (tmp_path / name).mkdir(parents=True)
        if name != "other/pictures":
            (tmp_path / name / "results.json").write_text(json.dumps(linear()))
    named = [tmp_path / name for name in ("score", "plain", "other", "missing")]
    assert spread(named) == [
        tmp_path / "score" / "clusters", tmp_path / "score" / "linear", *named[1:],
    ]  # fmt: skip


def test_results_are_found_at_every_depth_that_ours_have(tmp_path) -> None:
    """Those that lie deeper are not passed over because others do not."""
    places = ["outputs", "outputs/plain", "outputs/score/linear", "outputs/eval/one/clusters"]
    for first in range(len(places)):
        folder = tmp_path / str(first)
        some = [folder / name for name in places[first:]]
        for place in some:
            place.mkdir(parents=True)
            (place / "results.json").write_text(json.dumps(linear()))
        assert sorted(spread([folder / "outputs"])) == sorted(some)


def test_a_stopped_read_out_of_a_folder_is_told_of(tmp_path, caplog) -> None:
    for name in ("clusters", "linear", "position/runner", "superpixels"):
        (tmp_path / "score" / name).mkdir(parents=True)
    (tmp_path / "score" / "clusters" / "results.json").write_text(json.dumps(clusters()))
    places = spread([tmp_path / "score"])
    assert [place.name for place in places] == ["clusters", "linear", "position"]
    (result,) = read_results(places)
    assert result["kind"] == "clusters"
    for name in ("linear", "position"):
        assert f"left out: {tmp_path / 'score' / name} holds no results.json" in caplog.text
    (tmp_path / "score" / "clusters" / "results.json").unlink()
    with pytest.raises(UserError, match="clusters holds no results.json"):
        read_results(spread([tmp_path / "score"]))


def stopped(folder, how):
    folder.mkdir(parents=True)
    if how == "logs":
        (folder / "runner").mkdir()
    elif how == "logs and a part":
        (folder / "runner").mkdir()
        (folder / "centroids_3.safetensors").touch()
    elif how == "lock":
        (folder / ".lock").touch()


STOPPED = {
    "logs": "did not end", "logs and a part": "did not end", "lock": "did not end",
    "nothing": "it is empty",
}  # fmt: skip


@pytest.mark.parametrize("how", STOPPED)
def test_what_is_left_out_and_what_is_refused_do_not_contradict_each_other(how, tmp_path, caplog):
    for name in ("a", "b"):
        stopped(tmp_path / name, how)
    folders = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(UserError, match=f"a holds no results.json: .*{STOPPED[how]}"):
        read_results(folders)
    assert divide_folders(folders) == (folders, []) and "left out" not in caplog.text
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "results.json").write_text('{"kind": "position"}')
    rest, (own,) = divide_folders([*folders, tmp_path / "own"])
    assert rest == [] and own["kind"] == "position"
    assert caplog.text.count("left out") == 2 and caplog.text.count(STOPPED[how]) == 2


def test_all_results_of_folders_of_any_shape_are_shown(tmp_path):
    """One evaluation, several read-outs, both in one folder, and a folder of all of them."""
    places = ("one", "several/linear", "several/boundaries/5", "both", "both/clusters")
    for seed, name in enumerate(places):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "results.json").write_text(json.dumps(linear(seed=seed)))
    stopped(tmp_path / "several" / "retrieval", "nothing")
    # Where score.py keeps what libraries say.
    (tmp_path / "several" / "runner").mkdir()
    stopped(tmp_path / "stopped", "logs")
    (tmp_path / "notes").mkdir()
    wanted = sorted(tmp_path / name for name in (*places, "several/retrieval", "stopped"))
    found = spread([tmp_path / name for name in ("one", "several", "both", "stopped")])
    assert sorted(found) == wanted and sorted(spread([tmp_path])) == wanted
    (table,) = make_tables(read_results(found))
    assert len(table.rows["run"]["linear"]) == len(places)


OTHERS = {
    "demo": {"title": "ViCE demo", "scores": {}, "versions": {}, "training": {}},
    "object": {}, "list": [{"image_id": 3, "score": 0.5}], "kind": {"kind": "regression"},
    "odd kind": {"kind": []}, "number": 3,
}  # fmt: skip


@pytest.mark.parametrize("above", ["", "demo", "outputs/demo"])
@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_results_of_others_are_left_out_and_what_lies_in_their_folder_is_taken(
    content, above, tmp_path, caplog
):
    """As the demo lays them out, whichever folder above is named."""
    demo = tmp_path / above
    wanted = [demo / "eval" / name / "linear" for name in ("lab", "random", "trained")]
    for seed, place in enumerate(wanted):
        place.mkdir(parents=True)
        (place / "results.json").write_text(json.dumps(linear(seed=seed)))
    (demo / "results.json").write_text(json.dumps(content))
    # One more further inside.
    (demo / "eval" / "results.json").write_text(json.dumps(content))
    assert spread([tmp_path]) == wanted
    for place in (demo, demo / "eval"):
        assert caplog.text.count(f"left out: {place}/results.json was not written") == 1
    assert spread([demo]) == spread([tmp_path, demo])[: len(wanted)] == wanted
    (table,) = make_tables(read_results(spread([demo])))
    assert len(table.rows["run"]["linear"]) == len(wanted)


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_results_of_others_alone_are_refused_with_what_to_do(content, tmp_path, caplog):
    for name in ("other", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "results.json").write_text(json.dumps(content))
    (tmp_path / "mine" / "results.json").write_text(json.dumps(linear()))
    named = [tmp_path / "other", tmp_path / "mine"]
    assert spread(named) == spread([tmp_path]) == [tmp_path / "mine"]
    assert caplog.text.count("other/results.json was not written by an evaluation") == 2
    (tmp_path / "mine" / "results.json").unlink()
    caplog.clear()
    for places in ([named[0]], [tmp_path]):
        with pytest.raises(
            UserError, match=r"other/results\.json .*(name a folder|evaluate again)"
        ):
            read_results(divide_folders(spread(places))[0])
    assert "left out" not in caplog.text


@pytest.mark.parametrize("kind", [None, 5, [], {}, "lineer"])
def test_results_whose_kind_was_changed_are_no_others(kind, tmp_path):
    for seed, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(linear(seed=seed)))
    (tmp_path / "b" / "results.json").write_text(json.dumps({**linear(seed=1), "kind": kind}))
    with pytest.raises(UserError, match=r"b/results\.json was not written"):
        read_results(divide_folders(spread([tmp_path]))[0])
    (tmp_path / "b" / "results.json").write_text("{")
    with pytest.raises(UserError, match=r"b/results\.json is broken"):
        read_results(divide_folders(spread([tmp_path]))[0])


def test_what_a_stopped_evaluation_leaves_is_left_out(tmp_path, caplog) -> None:
    for name in ("whole", "empty", "stopped/runner.part"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "whole" / "results.json").write_text(json.dumps(linear()))
    (result,) = read_results(tmp_path / name for name in ("empty", "stopped", "whole"))
    assert result["folder"] == str(tmp_path / "whole")
    assert caplog.text.count("left out: ") == 2
    with pytest.raises(UserError, match="holds no results.json"):
        read_results([tmp_path / "empty"])
    (tmp_path / "empty" / "other.txt").touch()
    with pytest.raises(UserError, match="holds no results.json"):
        read_results([tmp_path / "empty", tmp_path / "whole"])
