"""Paths in Hydra's grammar, in a shell and on the way through make and SLURM's scripts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import commands
from tests.helpers.forked import ROOT, Forked
from tests.hostile.paths import OFFER
from vice.paths import typed_path, typed_text
from vice.runtime.overrides import escape, expand, quote, shell_word, unescape

ODD = (
    "plain", "it's", "a, b [c] {d}", "back\\slash", "end\\", "both\\'", "x=1:2 $y",
    "${oc.env:HOME}", "\\${a}", "\\\\${a}'", "2023", "null", "~", "new\nline", "照片",
    'say "x"', "'", '"', "`ls`",
    "!", "#", "%j", " lead", "trail ", "-dash", "???", "a\u2028b", "tab\t", "$(ls)", "*", "&;|<>",
)  # fmt: skip


def random_names(count: int = 200) -> list[str]:
    rng, letters = np.random.default_rng(0), [*"ab'\"\\\\\\${}[](),=: ~#!*?\tü\n", "${"]
    return ["".join(rng.choice(letters, int(rng.integers(1, 9)))) for _ in range(count)]


@pytest.mark.parametrize("names", [ODD, random_names()], ids=["listed", "random"])
def test_any_path_survives_hydra_and_omegaconf(names):
    pytest.importorskip("hydra")
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    parser = OverridesParser.create()
    for name in names:
        parsed = parser.parse_override(f"key=[{quote(Path('/x', name))}]").value()
        plain = OmegaConf.to_container(OmegaConf.create({"key": parsed}), resolve=True)
        assert plain["key"] == [str(Path("/x", name))]


@pytest.mark.parametrize("names", [ODD, random_names()], ids=["listed", "random"])
def test_escapes_are_undone(names):
    assert [unescape(escape(name)) for name in names] == list(names)
    assert unescape("a${b}") is None and unescape("\\\\${b}") is None


def test_any_text_is_one_word_of_bash():
    names = [*ODD, *random_names(), "\udcdf.png", "\x01", "a\xa0b", ""]
    script = f"printf '%s\\0' {' '.join(map(shell_word, names))}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]] == names


def test_home_is_expanded_as_by_a_shell(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/people/me")
    monkeypatch.chdir(tmp_path)
    given = ["~", "~/a b", "~nobody_of_this_name/a", "a/~", "./~", "~a"]
    wanted = ["/people/me", "/people/me/a b", *(f"{tmp_path}/{text}" for text in given[2:4])]
    assert [expand(text) for text in given] == [*wanted, f"{tmp_path}/~", f"{tmp_path}/~a"]
    assert typed_path("~/a") == Path("/people/me/a")
    texts = ["random:~/run", "timm:x@~/f.pth", "a~b", "coco27", "./~", "coco27=~/d", "~"]
    wanted = ["random:/people/me/run", "timm:x@/people/me/f.pth", "a~b", "coco27", "./~"]
    assert [typed_text(text) for text in texts] == [*wanted, "coco27=/people/me/d", "/people/me"]


@pytest.mark.parametrize("name", [name for name in ODD if "\n" not in name and name[0] != " "])
def test_make_hands_on_what_was_typed(name, tmp_path):
    program, given = tmp_path / "bin" / "python", tmp_path / "given"
    program.parent.mkdir()
    program.write_text('#!/bin/bash\nprintf \'%s\\0\' "$@" > "$GIVEN"\n')
    program.chmod(0o755)
    (tmp_path / "runtime.stamp").touch()
    settings = [f"VENV={tmp_path}", f"IMAGES={name}", f"OUT={name}"]
    environment = {**os.environ, "GIVEN": str(given)}
    subprocess.run(
        ["make", "-s", "-C", ROOT, "-o", tmp_path / "runtime.stamp", "demo", *settings],
        env=environment,
        check=True,
    )
    wanted = ["tools/demo.py", f"--out={name}", f"--images={name}"]
    assert given.read_text().split("\0")[:-1] == wanted


@pytest.mark.parametrize("script", ["train", "superpixels", "evaluate"])
def test_scripts_hand_on_what_was_typed(script, tmp_path):
    given = [name for name in ODD if name != "-dash"]
    found = commands.of_script(ROOT / "scripts" / "slurm" / f"{script}.sbatch", given, tmp_path)
    start = 0 if script == "evaluate" else 1
    assert found[start : start + len(given)] == given


def test_the_offered_command_works_when_pasted(tmp_path):
    pytest.importorskip("vissl")
    from tests.hostile import runs

    runs.images(tmp_path / "it's, [2023] $x", np.random.default_rng(0), 1)
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    typed = ["tools/cache_superpixels.py", "config=vice/folder", "--workers", "1"]
    typed += ["config.DATA.TRAIN.DATA_PATHS=[it's, [2023] $x]"]
    typed += ["config.VICE.SUPERPIXELS.cache_dir=made here"]
    refused = Forked(typed, cwd=tmp_path).wait()
    assert refused.returncode == 2
    command = refused.stderr.strip().splitlines()[-1].rpartition(OFFER)[2]
    call = commands.call(command, tmp_path)
    done = Forked(call.arguments, cwd=tmp_path).wait()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 images, 1 new maps")
    assert list((tmp_path / "made here").rglob("*.npz"))
