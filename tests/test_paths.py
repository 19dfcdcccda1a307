from __future__ import annotations

import sys

import pytest

from vice import cli, paths
from vice.command import console
from vice.errors import UserError
from vice.experiments.reproduce.plan import parse_datasets
from vice.runtime.files import check_folder

#: Options and arguments of commands that are texts, and neither paths nor hold one.
NO_PATHS = {
    "--against", "--bands", "--device", "--fit-split", "--memory", "--readout", "--row", "--scale",
    "--set", "--shard", "--split", "--split-fit", "--split-score", "overrides", "parts", "table",
    "words",
}  # fmt: skip


def test_checkout_and_wheel(tmp_path, monkeypatch):
    package = tmp_path / "site" / "vice"
    package.mkdir(parents=True)
    monkeypatch.setattr(paths, "__file__", str(package / "paths.py"))
    with pytest.raises(UserError, match="no configs"):
        paths.config_root()
    (tmp_path / "site" / "configs").mkdir()
    assert paths.config_root() == tmp_path / "site" / "configs"
    (package / "configs").mkdir()
    assert paths.config_root() == package / "configs"


def test_this_checkout_has_the_configs_of_mmsegmentation():
    assert (paths.config_root() / "mmseg" / "linear_folder.py").is_file()


class Parsed(Exception):
    """Holds the parser of a command that was about to read its words."""


def parsers():
    def caught(parser, *words):
        raise Parsed(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli.Parser, "parse_args", caught)
        patch.setattr(cli.Parser, "parse_intermixed_args", caught)
        patch.setattr(cli, "run", lambda main, **more: main())
        patch.setattr(cli, "program", None)
        patch.setattr(sys, "argv", sys.argv)
        for word in (*console.WORDS, *console.FURTHER):
            with pytest.raises(Parsed) as found:
                console.main([word, "x"])
            yield word, found.value.args[0]


def test_no_command_takes_an_empty_path():
    """Such as that of a shell variable that is not set, which would be the working directory."""
    plain, paths_seen = set(), 0
    for word, parser in parsers():
        for action in parser._actions:
            name = action.option_strings[0] if action.option_strings else action.dest
            if action.nargs == 0 or action.choices is not None:
                continue
            if action.type is None:
                plain.add(f"{word} {name}")
                continue
            with pytest.raises(Exception) as refused:
                parser._get_value(action, "")
            paths_seen += paths.EMPTY in str(refused.value)
    assert paths_seen > 60
    # NAME=DATASET: looked at below.
    assert {each for each in plain if each.split()[1] not in NO_PATHS} == {"reproduce --dataset"}


def test_the_option_of_an_empty_path_is_named(capsys, monkeypatch):
    monkeypatch.setattr("vice.cli.program", None)
    monkeypatch.setattr(sys, "argv", sys.argv)
    with pytest.raises(SystemExit) as end:
        console.main(["select", "lab", "photos", "-n", "3", "--out", ""])
    assert end.value.code == 2
    assert f"argument --out/-o: {paths.EMPTY}" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"config\.CHECKPOINT\.DIR: empty"):
        check_folder("config.CHECKPOINT.DIR", "")
    for text in ("", "coco27="):
        with pytest.raises(UserError, match="--dataset .*: empty"):
            parse_datasets([text])


def test_a_config_of_the_folder_that_a_command_is_called_in_is_one(tmp_path, monkeypatch):
    (tmp_path / "configs" / "config" / "vice").mkdir(parents=True)
    (tmp_path / "configs" / "config" / "vice" / "own.yaml").touch()
    with pytest.raises(UserError, match="no config 'vice/own'"):
        paths.check_config(["config=vice/own"])
    monkeypatch.chdir(tmp_path)
    paths.check_config(["config=vice/own"])
    with pytest.raises(UserError, match=r"no config 'owm'; did you mean own\?"):
        paths.check_experiment("vice/owm")


@pytest.mark.parametrize("typed", ["coco_highres", "vice/coco_higres"])
def test_a_config_that_is_offered_can_be_typed_as_it_is_offered(typed):
    with pytest.raises(UserError, match=f"no config '{typed}'; did you mean vice/coco_highres"):
        paths.check_config([f"config={typed}"])


def test_several_configs_are_looked_at_and_a_group_in_braces_names_none():
    paths.check_config(["config=[vice/folder, 'vice/demo']", "config= {SEED_VALUE:3,A:[x,y]}"])
    with pytest.raises(UserError, match="no config 'vice/foldr'; did you mean vice/folder"):
        paths.check_config(["config=[vice/demo,vice/foldr]"])


@pytest.mark.parametrize("name", ["/a/mine", "/a/mine.yaml", "~/mine", "mine.yaml", "../mine.yml"])
def test_a_config_that_is_given_as_a_file_has_a_name(name):
    with pytest.raises(UserError, match=r"without folder and ending: put it into configs/config"):
        paths.check_config([f"config={name}"])


def test_a_config_with_another_ending_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "configs" / "config" / "vice"
    folder.mkdir(parents=True)
    (folder / "mine.yml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"vice/mine\.yml must end in \.yaml: rename it"):
        paths.check_config(["config=vice/mine"])
    for empty in ("config=", "config=[]", "config= "):
        with pytest.raises(UserError, match="names no config"):
            paths.check_config([empty])


@pytest.mark.parametrize("name", ["vice/folder.yaml", "/a/configs/config/vice/folder.yaml"])
def test_a_config_of_ours_that_is_given_as_a_file_is_named(name):
    with pytest.raises(UserError, match=r"ending: config=vice/folder$"):
        paths.check_config([f"config={name}"])
