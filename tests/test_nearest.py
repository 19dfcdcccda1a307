from __future__ import annotations

import pytest

from vice.nearest import close_names, did_you_mean, near_path


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("foldr", ["folder", "demo"], ["folder"]),
        ("FOLDER", ["folder", "demo"], ["folder"]),
        ("tiny", ["Tiny", "tin", "full"], ["Tiny"]),
        ("fpm", ["fpn", "pup"], ["fpn"]),
        ("quite else", ["folder", "demo"], []),
        ("", ["folder"], []),
    ],
)
def test_near_names_whatever_their_case(word, known, near):
    assert close_names(word, known) == near


def test_at_most_three_are_asked_for():
    assert did_you_mean("run", ["run1", "run2", "run3", "run4"]).count(" or ") == 2
    assert did_you_mean("x", ["run1"], "check it") == "; check it"
    assert did_you_mean("x", ["run1"]) == ""


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("outputs/foldr", "outputs/folder"),
        ("output/folder", "outputs/folder"),
        ("outptus/foldr/vice.safetensor", "outputs/folder/vice.safetensors"),
        ("Outputs", "outputs"),
        ("photo list.txt", "photo_list.txt"),
        (".cach", ".cache"),
    ],
)
def test_every_part_of_a_path_is_compared(typed, meant, tmp_path, monkeypatch):
    (tmp_path / "outputs" / "folder").mkdir(parents=True)
    (tmp_path / "outputs" / "folder" / "vice.safetensors").touch()
    (tmp_path / "photo_list.txt").touch()
    (tmp_path / ".cache").mkdir()
    monkeypatch.chdir(tmp_path)
    assert near_path(typed) == f"; did you mean {meant}?"
    assert near_path(tmp_path / typed) == f"; did you mean {tmp_path / meant}?"


@pytest.mark.parametrize(
    "typed",
    ["", ".", "nothing/alike", "a\0b", "x" * 5000, "file/below", "folder", "cach", "\udcff"],
)
def test_what_is_there_or_like_nothing_is_not_asked_for(typed, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / ".cache").mkdir()
    monkeypatch.chdir(tmp_path)
    assert near_path(typed, "check the path") == "; check the path"
