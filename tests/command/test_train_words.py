"""``vice train``: what becomes of its options."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.helpers.forked import Forked
from tests.plugins.vissl.conftest import TINY, write_images
from vice.command import train
from vice.command.train import reading_words
from vice.errors import UserError
from vice.images import list_images
from vice.runtime.run_folder import read_overrides, write_overrides


@pytest.mark.parametrize("name", ["a b", "it's", 'say "x"', "[1,2]", "${x}", "k=v", "2023", "ä,ö"])
def test_paths_are_quoted_for_hydra(name):
    words = train.overrides("folder", [Path(f"/x/{name}")], Path(f"/z/{name}"), [])
    parse = OverridesParser.create().parse_override
    meant = [part.replace("${", r"\${") for part in (f"/x/{name}", f"/z/{name}")]
    assert words[0] == "config=vice/folder"
    assert parse(words[1]).value() == meant[:1]
    assert parse(words[2]).value() == meant[1]


def test_several_places_become_a_list(tmp_path):
    places = [write_images(tmp_path / name, 2) for name in ("a b", "c\udcff")]
    out = tmp_path / "out"
    words = train.overrides("folder", [*places, places[0]], out, [])
    assert words[1] == f"config.DATA.TRAIN.DATA_PATHS=['{out / 'image_list.txt'}']"
    wanted = [place / f"{number}.png" for place in places for number in (0, 1)]
    assert list_images(out / "image_list.txt") == wanted
    with pytest.raises(UserError, match="several --images need --out"):
        train.overrides("folder", places, None, [])


def test_configs_and_what_is_said_twice():
    assert train.overrides("vice/coco_highres", None, None, ["a=1"]) == [
        "config=vice/coco_highres", "a=1",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"no config 'photos'; choose one of .*\bfolder\b"):
        train.overrides("photos", None, None, [])
    for option, key in (("--images", "DATA.TRAIN.DATA_PATHS"), ("--out", "CHECKPOINT.DIR")):
        for prefix in ("", "+", "++"):
            with pytest.raises(UserError, match=rf"{option} and config\.{key} say the same"):
                train.overrides("folder", [Path("a")], Path("b"), [f"{prefix}config.{key}=x"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([], "--out=/x cannot be made; --images: /y; config.CHECKPOINT.DIRS"),
        (["++config.CHECKPOINT.DIR=/x"], "config.CHECKPOINT.DIR=/x cannot be made; --images: /y; "
         "config.CHECKPOINT.DIRS"),
    ],
)  # fmt: skip
def test_messages_name_the_options_of_this_command(changes, said, monkeypatch):
    text = "config.CHECKPOINT.DIR=/x cannot be made; config.DATA.TRAIN.DATA_PATHS: /y; "
    text += "config.CHECKPOINT.DIRS"
    assert train._by_options(text, parsed(monkeypatch, *changes)) == said


def test_a_run_of_other_settings_is_refused_by_the_option(tmp_path):
    images, out = write_images(tmp_path / "photos"), tmp_path / "run"
    config, *changes = TINY
    command = ["-m", "vice", "train", config.partition("/")[2], "--images", str(images)]
    assert Forked([*command, "--out", str(out), *changes], cwd=tmp_path).wait().returncode == 0
    changes.append("config.OPTIMIZER.num_epochs=7")
    done = Forked([*command, "--out", str(out), *changes], cwd=tmp_path).wait()
    assert done.returncode == 2
    assert done.stderr.strip().endswith("Set them back, or choose another --out")


def test_of_two_lists_for_one_run_the_first_stays(tmp_path):
    places = [write_images(tmp_path / name, 2) for name in ("a", "b", "c")]
    config, *changes = TINY
    calls = [
        Forked(["-m", "vice", "train", config.partition("/")[2], "--images", *map(str, pair),
                "--out", str(tmp_path / "run"), *changes], cwd=tmp_path)
        for pair in (places[:2], places[1:])
    ]  # fmt: skip
    done = [call.wait() for call in calls]
    assert sorted(each.returncode for each in done) == [0, 2]
    first, second = sorted(zip(done, (places[:2], places[1:]), strict=True),
                           key=lambda pair: pair[0].returncode)  # fmt: skip
    assert "holds a training on other images" in second[0].stderr
    wanted = [place / f"{number}.png" for place in first[1] for number in (0, 1)]
    assert list_images(tmp_path / "run" / "image_list.txt") == wanted


def parsed(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["vice train", *words])
    return train._parse()


def test_overrides_behind_images_are_overrides(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k=v").mkdir()
    words = ("photos", "k=v", "no/such=place", "config.OPTIMIZER.num_epochs=4", "+a.b=./x", "~c.d")
    found = parsed(monkeypatch, "folder", "--images", *words, "--out", "o", "e=1")
    assert found.images == [Path("photos"), Path("k=v"), Path("no/such=place")]
    assert set(found.changes) == {"config.OPTIMIZER.num_epochs=4", "+a.b=./x", "~c.d", "e=1"}
    assert parsed(monkeypatch, "--images", "e=1").images is None


def test_words_in_any_order(monkeypatch):
    first = parsed(monkeypatch, "--images", "a", "b", "--out", "c", "folder", "k=1", "~k")
    assert first.images == [Path("a"), Path("b")] or first.config == "folder"
    args = parsed(monkeypatch, "k=1", "config=vice/demo", "--images", "a", "b", "--out", "c", "~k")
    assert (args.config, args.images, args.out) == ("vice/demo", [Path("a"), Path("b")], Path("c"))
    assert args.changes == ["k=1", "~k"]
    assert parsed(monkeypatch).config == "folder"


@pytest.mark.parametrize(
    "words",
    [("a", "b"), ("--resume",), ("--resume", "--out", "x", "demo"),
     ("--resume", "--out", "x", "--images", "y"), ("--out", "x", "--out", "y")],
)  # fmt: skip
def test_words_that_do_not_go_together(words, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        parsed(monkeypatch, *words)
    assert end.value.code == 2 and "error: " in capsys.readouterr().err


def test_what_a_run_was_started_with(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="is no run folder: repeat the command"):
        read_overrides(tmp_path)
    write_overrides(tmp_path, ["a=1", "b=é\udcff"])
    assert read_overrides(tmp_path) == ["a=1", "b=é\udcff"]
    monkeypatch.setenv("SOME_TOKEN", "hunter2hunter2")
    write_overrides(tmp_path, ["a=1", "b=hunter2hunter2"])
    assert not list(tmp_path.iterdir())
    (tmp_path / "train_config.yaml").write_text("a: 1\n")
    with pytest.raises(UserError, match="does not hold its command: repeat the command"):
        read_overrides(tmp_path)
    (tmp_path / "overrides.json").write_text("[1]")
    with pytest.raises(UserError, match="holds no overrides"):
        read_overrides(tmp_path)


def test_trains_and_resumes(tmp_path):
    """A real run whose folder has a name that a shell and Hydra would read otherwise, moved."""
    images, out = write_images(tmp_path / "my [new] photos"), tmp_path / "run, it's 1"
    more = write_images(tmp_path / "more", 1)
    config, *changes = TINY
    command = ["-m", "vice", "train", config.partition("/")[2], "--images", str(images)]
    command.append(str(more))
    done = Forked([*command, "--out", str(out), *changes], cwd=tmp_path).wait()
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"trained: {out}/vice.safetensors\n"
    assert json.loads((out / "overrides.json").read_text())[0] == config
    moved = out.rename(tmp_path / "moved")
    again = Forked(["-m", "vice", "train", "--resume", "--out", str(moved)], cwd=tmp_path).wait()
    assert again.returncode == 0, again.stderr
    assert again.stdout == f"trained: {moved}/vice.safetensors\n"
    assert "is done already" in again.stderr


def test_how_images_are_read_becomes_words():
    args = argparse.Namespace(scale="p1,p99", bands="4,3,2", page=2, changes=[])
    assert reading_words(args) == [
        "config.VICE.DATASET.scale='p1,p99'",
        "config.VICE.DATASET.bands=[4,3,2]",
        "config.VICE.DATASET.page=2",
    ]
    args = argparse.Namespace(scale=None, bands=None, page=None, changes=[])
    assert reading_words(args) == []
    args = argparse.Namespace(
        scale="0,1", bands=None, page=None, changes=["config.VICE.DATASET.scale='0,1'"]
    )
    with pytest.raises(UserError, match="say the same"):
        reading_words(args)
