"""Compiling on the machine at hand: once, for oneself, and never a failure of the training."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import sys
import time
from functools import cache

import pytest

from tests.helpers.forked import Forked
from tests.helpers.variations import variations
from vice.regions.compiled import shared_library as module

CC = shutil.which("cc")
needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler")
#: A process of its own, which a library may end.
USE = """
import torch
from vice.regions import pool_regions
from vice.regions.compiled.shared_library import why_not
pool_regions(torch.randn(2, 4, 3, 3), torch.zeros(2, 9, 9, dtype=torch.long))
assert float(torch.tensor(1e-39) * 1) > 0, "numbers next to nothing are taken for nothing"
print(why_not() or "compiled")
"""


@pytest.fixture(autouse=True)
def anew(tmp_path, monkeypatch):
    """A cache of its own, empty, nothing loaded, and a tenth of the time to compile."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "OPTIONS", ("-O0", *module.OPTIONS[1:]))
    for name in ("library", "_found"):
        monkeypatch.setattr(module, name, cache(getattr(module, name).__wrapped__))


def again():
    module.library.cache_clear()
    module._found.cache_clear()
    return module.library()


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def files(tmp_path):
    return sorted((tmp_path / "cache" / "vice").iterdir())


def quickly(tmp_path, options=""):
    """A compiler that optimizes nothing, for processes of their own: the last option counts."""
    return script(tmp_path / "quick", f'exec {CC} "$@" {options} -O0')


def use(tmp_path, **environment):
    """What a process of its own says, which pools regions."""
    (tmp_path / "use.py").write_text(USE)
    done = Forked([tmp_path / "use.py"], **environment).wait()
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_cc
@pytest.mark.parametrize("kind", ["SOURCES", "HEADERS"])
def test_what_any_file_says_makes_another_library(kind, tmp_path, monkeypatch):
    assert module.library() is not None
    # Headers are looked for beside what includes them.
    for each in {*module.HEADERS, *getattr(module, kind)}:
        (tmp_path / each.name).write_bytes(each.read_bytes())
    changed = tuple(tmp_path / each.name for each in getattr(module, kind))
    changed[-1].write_text(f"{changed[-1].read_text()}\n/* another */\n")
    monkeypatch.setattr(module, kind, changed)
    assert again() is not None
    assert len(files(tmp_path)) == 2


@needs_cc
def test_it_is_compiled_once_and_for_oneself(tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    monkeypatch.setenv("CC", script(tmp_path / "cc", f'echo >>{calls}; exec {CC} "$@"'))
    assert module.library() is not None and module.why_not() == ""
    (made,) = files(tmp_path)
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    assert again() is not None
    assert calls.read_text() == "\n"


#: Scripts in place of a compiler, and what is told of them.
FAILING = {
    "exit 1": "status 1",
    "exit 0": "status 0",
    "echo a >&2; echo b: fatal error: no license >&2; echo c >&2; exit 3": "error: no license",
    "printf '\\033[1m%0999d\\r' 1 >&2; exit 3": "[1m000",
    "printf '\\377\\376' >&2; exit 3": "\ufffd",
    "kill -9 $$": "status -9",
}


@pytest.mark.parametrize("text", FAILING)
def test_what_a_compiler_says_is_told_in_one_line(tmp_path, monkeypatch, caplog, text):
    monkeypatch.setenv("CC", script(tmp_path / "cc", text))
    with caplog.at_level(logging.INFO):
        assert module.library() is None
        assert module.library() is None
    (line,) = caplog.messages
    assert line.startswith("regions are pooled by plain PyTorch, more slowly: ")
    assert f"cc does not serve: {FAILING[text]}" in line.replace("b: fatal ", "")
    assert line.isprintable() and len(line) < 400
    assert not list((tmp_path / "cache").rglob("*.so")) and not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        ("", "$CC is empty, so there is no C compiler"),
        ("there-is-no-such-compiler -O1", "there is no C compiler there-is-no-such-compiler"),
        ("'unclosed", "$CC cannot be read (No closing quotation)"),
    ],
)
def test_without_a_compiler_that_is_said(monkeypatch, compiler, why):
    monkeypatch.setenv("CC", compiler)
    assert module.library() is None
    assert module.why_not() == why


def test_a_compiler_that_hangs_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    monkeypatch.setenv("CC", script(tmp_path / "cc", "exec sleep 60"))
    assert module.library() is None
    assert module.why_not().endswith("cc is not done after 0.2 s")


@needs_cc
def test_a_wrapper_that_leaves_a_helper_behind_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", script(tmp_path / "cc", f'sleep 40 &\nexec {CC} "$@"'))
    begun = time.monotonic()
    assert module.library() is not None
    assert time.monotonic() - begun < 30


@needs_cc
def test_a_compiler_that_does_not_know_the_processor_is_asked_without(tmp_path, monkeypatch):
    text = f'case "$*" in *-march*) exit 1;; esac; exec {CC} "$@"'
    monkeypatch.setenv("CC", script(tmp_path / "cc", text))
    assert module.library() is not None


@needs_cc
@pytest.mark.parametrize(
    "options", variations(["-ffast-math", "-fvisibility=hidden", "-g -Wall"], 3)
)
def test_options_of_the_compiler_change_nothing(tmp_path, options):
    assert use(tmp_path, CC=f"{CC} {options}") == "compiled"


@needs_cc
def test_a_library_that_ends_its_process_is_not_loaded(tmp_path):
    """As AddressSanitizer's do, whose runtime must come first."""
    said = use(tmp_path, CC=quickly(tmp_path, "-fsanitize=address"))
    assert said == "compiled" or "what it makes does not load" in said


@needs_cc
def test_what_is_damaged_in_the_cache_is_made_again(tmp_path):
    """A library that is cut off is mapped without complaint, and ends the process where it is."""
    quick = quickly(tmp_path)
    assert use(tmp_path, CC=quick) == "compiled"
    (made,) = files(tmp_path)
    whole = made.read_bytes()
    cuts = [b"", b"no library", *(whole[:size] for size in range(1000, len(whole), 9000))]
    for damage in [*cuts, whole[:-1], whole[:4096].ljust(len(whole), b"\0"), whole + b"\0"]:
        made.write_bytes(damage)
        assert not module._is_whole(made)
    for damage in (whole[:20480], whole[:4096].ljust(len(whole), b"\0")):
        made.write_bytes(damage)
        assert use(tmp_path, CC=quick) == "compiled"
        assert made.read_bytes() == whole


@needs_cc
@pytest.mark.parametrize(
    "kind", ["a file", "others may write", "above", "a link of others", "not there", "relative"]
)
def test_a_cache_that_cannot_be_trusted_is_left_alone(tmp_path, monkeypatch, caplog, kind):
    folder = tmp_path / "cache" / "vice"
    monkeypatch.chdir(tmp_path)
    if kind == "a file":
        (tmp_path / "cache").write_text("")
    if kind == "others may write":
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    if kind == "above":
        folder.parent.mkdir()
        folder.parent.chmod(0o777)
    if kind == "a link of others":
        (tmp_path / "mine").mkdir(mode=0o700)
        folder.parent.mkdir()
        folder.symlink_to(tmp_path / "mine")
        if os.geteuid() != 0:
            pytest.skip("needs root")
        os.lchown(folder, 1234, 1234)
    if kind == "not there":
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no/such")
    if kind == "relative":
        monkeypatch.setenv("XDG_CACHE_HOME", "cache")
        monkeypatch.setenv("HOME", "also/relative")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(module.tempfile, "tempdir", str(temporary))
    with caplog.at_level(logging.INFO):
        assert module.library() is not None
    (line,) = caplog.messages
    assert line.startswith("pooling of regions is compiled for this process alone: ")
    # What is loaded needs its file no more.
    assert not list(tmp_path.rglob("*.so")) and not list(temporary.iterdir())


@pytest.mark.skipif(not hasattr(os, "chown") or os.geteuid() != 0, reason="needs root")
@needs_cc
def test_root_makes_nothing_in_the_home_of_others(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 1234, 1234)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(home))
    assert module.library() is not None
    assert not list(home.iterdir())


@needs_cc
def test_what_is_left_by_older_versions_and_killed_processes_is_removed(tmp_path):
    folder = tmp_path / "cache" / "vice"
    folder.mkdir(parents=True, mode=0o700)
    ages = {"regions-0.so": 1, "regions-1.so": 100, "regions-0-a.part": 0, "regions-0-b.part": 1}
    for name, days in ages.items():
        (folder / name).touch()
        os.utime(folder / name, (time.time() - days * 24 * 3600,) * 2)
    assert module.library() is not None
    left = {file.name for file in files(tmp_path)} - {module.library()._name.rpartition("/")[2]}
    assert left == {"regions-0.so", "regions-0-a.part"}


@needs_cc
def test_a_cache_may_lie_elsewhere(tmp_path):
    """On clusters ~/.cache, or what is in it, is often a link to a larger disk."""
    (tmp_path / "scratch").mkdir(mode=0o700)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "vice").symlink_to(tmp_path / "scratch")
    assert module.library() is not None
    assert [file.suffix for file in (tmp_path / "scratch").iterdir()] == [".so"]


@needs_cc
@pytest.mark.parametrize("executable", [None, "", "/usr/sbin/uwsgi", "/bin/false"])
def test_interpreters_inside_other_programs(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    assert module.library() is not None


@needs_cc
def test_without_users_there_is_a_library_as_well(monkeypatch):
    """Windows has no `os.geteuid`."""
    monkeypatch.delattr(os, "geteuid")
    assert module.library() is not None


@needs_cc
def test_processes_at_the_same_time_make_the_same_file(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", quickly(tmp_path))
    script = tmp_path / "make.py"
    script.write_text(
        "from vice.regions.compiled.shared_library import library as it; assert it()\n"
    )
    many = [Forked([script]) for _ in range(3)]
    assert [each.wait(120).returncode for each in many] == [0] * 3
    assert [file.suffix for file in files(tmp_path)] == [".so"]
