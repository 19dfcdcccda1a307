"""Compiling on the machine at hand: once, for oneself, and never a failure of the training."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import sys
from functools import cache

import pytest

from vice.regions.compiled import shared_library as module

CC = shutil.which("cc")
needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def anew(tmp_path, monkeypatch):
    """A cache of its own, empty, and nothing loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("library", "_temporary"):
        monkeypatch.setattr(module, name, cache(getattr(module, name).__wrapped__))


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def files(tmp_path):
    return sorted((tmp_path / "cache" / "vice").iterdir())


@needs_cc
def test_it_is_compiled_once_and_for_oneself(tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    monkeypatch.setenv("CC", script(tmp_path / "cc", f'echo >>{calls}; exec {CC} "$@"'))
    assert module.library() is not None
    (made,) = files(tmp_path)
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    module.library.cache_clear()
    assert module.library() is not None
    assert calls.read_text() == "\n"


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        ("", "CC is empty"),
        ("there-is-no-such-compiler", "No such file"),
        ("false", "false: status 1"),
        ("sh -c 'echo no license >&2; exit 3'", "no license"),
        ("'unclosed", "No closing quotation"),
    ],
)
def test_without_a_compiler_one_line_says_so(tmp_path, monkeypatch, caplog, compiler, why):
    monkeypatch.setenv("CC", compiler)
    with caplog.at_level(logging.INFO):
        assert module.library() is None
        assert module.library() is None
    (line,) = caplog.messages
    assert line.startswith("regions are pooled by plain PyTorch, more slowly: no C compiler (")
    assert why in line and "\n" not in line
    assert not list((tmp_path / "cache").rglob("*.so")) and not list(tmp_path.rglob("*.part"))


def test_a_compiler_that_hangs_is_given_up(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    monkeypatch.setenv("CC", script(tmp_path / "cc", "exec sleep 60"))
    with caplog.at_level(logging.INFO):
        assert module.library() is None
    assert "timed out" in caplog.text


@needs_cc
def test_a_compiler_that_does_not_know_the_processor_is_asked_without(tmp_path, monkeypatch):
    text = f'case "$*" in *-march*) exit 1;; esac; exec {CC} "$@"'
    monkeypatch.setenv("CC", script(tmp_path / "cc", text))
    assert module.library() is not None


@needs_cc
def test_what_is_damaged_in_the_cache_is_made_again(tmp_path, monkeypatch):
    assert module.library() is not None
    (made,) = files(tmp_path)
    whole = made.read_bytes()
    for damage in (b"", whole[:1000], b"no library"):
        # Another inode: this process has mapped the file.
        made.unlink()
        made.write_bytes(damage)
        module.library.cache_clear()
        assert module.library() is not None


@needs_cc
@pytest.mark.parametrize("kind", ["a file", "others may write", "elsewhere", "relative"])
def test_a_cache_that_cannot_be_trusted_is_left_alone(tmp_path, monkeypatch, kind):
    folder = tmp_path / "cache" / "vice"
    monkeypatch.chdir(tmp_path)
    if kind == "a file":
        (tmp_path / "cache").write_text("")
    if kind == "others may write":
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    if kind == "elsewhere":
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no/such")
    if kind == "relative":
        monkeypatch.setenv("XDG_CACHE_HOME", "cache")
        monkeypatch.setenv("HOME", "also/relative")
    found = module.library()
    assert found is not None
    assert os.path.commonpath([found._name, tmp_path]) != str(tmp_path)
    assert not list(tmp_path.rglob("*.so"))


@needs_cc
def test_processes_at_the_same_time_make_the_same_file(tmp_path):
    command = (
        "from vice.regions.compiled.shared_library import library; assert library() is not None"
    )
    many = [subprocess.Popen([sys.executable, "-c", command]) for _ in range(4)]
    assert [each.wait(120) for each in many] == [0] * 4
    assert [file.suffix for file in files(tmp_path)] == [".so"]
