"""The command ``vice``: its words, what they say, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

from vice.command import conflict, console
from vice.paths import tool


def ended(words, capsys):
    with pytest.raises(SystemExit) as end:
        console.main(words)
    return end.value.code, capsys.readouterr()


def test_every_word_is_there_and_every_script_has_a_word():
    scripts = {target for _, target in console.WORDS.values() if target.endswith(".py")}
    modules = {target for _, target in console.WORDS.values()} - scripts
    assert all(callable(import_module(name).main) for name in modules)
    scripts |= set(console.FURTHER.values())
    there = {path.name for path in tool("score.py").parent.glob("*.py")} - {"__init__.py"}
    assert scripts | {"run_distributed.py"} == there
    text = console.help_text()
    assert all(word in text for word in (*console.WORDS, *console.FURTHER))
    assert max(map(len, text.splitlines())) <= 100


def test_help_needs_no_library(tmp_path):
    code = (
        "import sys, runpy; sys.argv = ['vice', '--help']; before = set(sys.modules)\n"
        "try: runpy.run_module('vice', run_name='__main__')\n"
        "finally: print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}"
        " & {'torch', 'numpy', 'cv2', 'PIL', 'argparse'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("scroe", "did you mean vice score?"),
        ("eval_linear", "did you mean vice eval-linear?"),
        ("prepare_data", "did you mean vice prepare?"),
        ("run_distributed", "did you mean vice train?"),
        ("run_distributed.py", "did you mean vice train?"),
        ("zzz", "vice --help lists what it can do"),
        ("--verbose", "vice --help lists what it can do"),
    ],
)
def test_unknown_words(word, meant, capsys):
    status, said = ended([word], capsys)
    assert status == 2
    assert said.err == f"error: vice knows no {word!r}; {meant}\n"


def test_help_of_a_script_names_the_word(capsys, monkeypatch):
    monkeypatch.setattr("vice.cli.program", None)
    monkeypatch.setattr(sys, "argv", sys.argv)
    status, said = ended(["compare", "--help"], capsys)
    assert status == 0
    assert said.out.startswith("usage: vice compare ")
    assert "vice compare outputs/msrc21/*" in said.out and "python tools/" not in said.out


def test_the_other_package_of_this_name(capsys, monkeypatch):
    assert conflict.other_package() == ""
    monkeypatch.setattr(conflict, "version", lambda name: {"vice": "1.3.1"}[name])
    status, said = ended(["compare", "--help"], capsys)
    assert status == 2 and said.out == ""
    assert said.err.startswith("error: the package vice 1.3.1 ") and said.err.count("\n") == 1


#: What needs no model, no data and no framework, and leaves nothing but what it prints.
ANSWERS = {
    "": [],
    "--help": ["--help"],
    "--version": ["--version"],
    "info": ["info"],
    "install": ["install", "training", "scoring", "--dry-run"],
    "reproduce": ["reproduce", "--list"],
    **{f"{word} --help": [word, "--help"] for word in (*console.WORDS, *console.FURTHER)},
}


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


@pytest.mark.filterwarnings("ignore:Setuptools is replacing")
@pytest.mark.parametrize("words", ANSWERS.values(), ids=list(ANSWERS))
@pytest.mark.parametrize(
    ("lost", "status", "line"),
    [
        (partial(open, "/dev/full", "w"), 2, "error: cannot write to standard output: No space"),
        (closed_pipe, 141, ""),
    ],
    ids=["full", "unread"],
)
def test_an_answer_that_is_lost_is_a_failure(words, lost, status, line, capsys, monkeypatch):
    monkeypatch.setattr("vice.cli.program", None)
    monkeypatch.setattr(sys, "argv", sys.argv)
    with lost() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        found, said = ended(words, capsys)
        assert found == status
        assert said.err.startswith(line) and said.err.count("\n") == (status == 2)


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("--help >&-", 0, ""),
        ("--version >&- 2>&-", 0, ""),
        ("nonsense 2>&-", 2, ""),
        ("nonsense 2>/dev/full", 2, ""),
        ("compare 2>/dev/full", 2, ""),
        ("--help >/dev/full 2>/dev/full", 2, ""),
        ("--help >/dev/full", 2, "error: cannot write to standard output: No space left on device"),
    ],
)
def test_streams_that_take_nothing(command, status, said, tmp_path):
    line = f"exec {sys.executable} -m vice {command}"
    done = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tool("score.py").parents[1])},
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(said) and done.stderr.count("\n") == bool(said)


@pytest.mark.parametrize("part", ["vissl", "mmseg"])
def test_a_missing_part_is_named_with_the_command_that_installs_it(part, tmp_path):
    command = {
        "vissl": ["train", "--images", str(tmp_path)],
        "mmseg": ["eval-linear", "lab", "--dataset", str(tmp_path)],
    }[part]
    for kind in ("images", "labels"):
        for split in ("train", "val"):
            folder = tmp_path / kind / split
            folder.mkdir(parents=True)
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "a.png")
    (tmp_path / "classes.txt").write_text("dark\n")
    code = (
        f"import sys; sys.modules[{part!r}] = None\n"
        f"from vice.command.console import main; main({command!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    name = {"vissl": "training", "mmseg": "scoring"}[part]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {name} needs ") and last.endswith(f"vice install {name}")


def test_info(capsys, monkeypatch, run_dir):
    monkeypatch.setattr(sys, "argv", ["vice info"])
    import_module("vice.command.info").main()
    machine = capsys.readouterr().out
    assert "\ntraining " in machine and machine.count("installed") == 2
    monkeypatch.setattr(sys, "argv", ["vice info", str(run_dir)])
    import_module("vice.command.info").main()
    model = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    model = {name: text.strip() for name, text in model.items()}
    assert model["embedding"] == "16 dimensions" and model["concepts"] == "6"
    card = json.loads((run_dir / "vice.json").read_text())
    assert model["network: backbone"] == card["embedder"]["backbone"] == "resnet18"
