"""Hostile lists of image files, as a training gets them in DATA_PATHS."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import runs
from tests.hostile.case import Action, Case
from tests.hostile.damage import spoil
from tests.hostile.images import train_on

Rng = np.random.Generator
GROUP = "file lists"
SHARE = 0.07
LINES = ["images/0.png", "images/1.png", "images/2.png"]


def _usable(samples: Any) -> str | None:
    return None if samples else "no sample"


def _listed(content: Callable[[Path, Rng], bytes], folder: Path, rng: Rng) -> Action:
    runs.images(folder / "images", rng)
    path = folder / "list.txt"
    path.write_bytes(content(folder, rng))
    return action(folder, path)


def action(folder: Path, path: Path) -> Action:
    """A training on a list: its samples here, all of it as a tool."""
    command = (
        "run_distributed.py",
        "config=vice/folder",
        f"config.DATA.TRAIN.DATA_PATHS=[{path}]",
        f"config.CHECKPOINT.DIR={folder / 'run'}",
    )
    names = (str(path), path.name, "config.DATA.TRAIN.DATA_PATHS")
    return Action(run=lambda: train_on(path), command=command, names=names, check=_usable)


def _text(*lines: str, end: str = "\n", encoding: str = "utf-8") -> Callable[..., bytes]:
    return lambda folder, rng: (end.join(lines) + end).encode(encoding)


def _absolute(folder: Path, rng: Rng) -> bytes:
    return "".join(f"{folder / line}\n" for line in LINES).encode()


def _itself(folder: Path, rng: Rng) -> bytes:
    return b"list.txt\n" + "\n".join(LINES).encode()


def _long(folder: Path, rng: Rng) -> bytes:
    lines = [LINES[0]] * 10_000
    lines[int(rng.integers(len(lines)))] = "images/missing.png"
    return "\n".join(lines).encode()


def _spoilt(folder: Path, rng: Rng) -> bytes:
    return spoil("\n".join(LINES).encode(), rng)


def _mixed(folder: Path, rng: Rng) -> bytes:
    odd = ["", "   ", "images/missing.png", "images", "/", ".", "..", "~", "\x00", "# comment"]
    odd += ["images/0.png ", "\timages/1.png", "IMAGES/0.PNG", "a\x0bb", "x" * 5000, "$HOME/a.png"]
    odd += ["file:///a.png", "https://example.org/a.png", "images/../images/2.png", "é.png"]
    chosen = [str(line) for line in rng.choice(LINES + odd, int(rng.integers(1, 12)))]
    end = ("\n", "\r\n", "\r")[int(rng.integers(3))]
    encoding = ("utf-8", "utf-8-sig", "utf-16", "latin-1")[int(rng.integers(4))]
    return end.join(chosen).encode(encoding)


_GOOD = {
    "plain": _text(*LINES),
    "blank-lines": _text("", *LINES, "", ""),
    "crlf": _text(*LINES, end="\r\n"),
    "bom": _text(*LINES, encoding="utf-8-sig"),
    "absolute": _absolute,
    "twice": _text(*LINES, *LINES),
    "spaces": _text("  images/0.png  ", "\timages/1.png"),
    "one-missing": _text(*LINES, "images/missing.png"),
    "folder-in-list": _text(*LINES, "images"),
    "itself": _itself,
    "comment": _text("# my images", *LINES),
    "utf-16": _text(*LINES, encoding="utf-16"),
    "backslashes": _text(*(line.replace("/", "\\") for line in LINES)),
    "no-last-newline": lambda folder, rng: "\n".join(LINES).encode(),
}
_BAD = {
    "empty": _text(end=""),
    "only-blank": _text("", " ", "\t"),
    "all-missing": _text("a.png", "b.png"),
    "only-comments": _text("# a", "# b"),
    "utf-16-unmarked": _text(*LINES, encoding="utf-16-le"),
    "latin-1": lambda folder, rng: b"b\xe4ume.png\n",
    "nul": lambda folder, rng: b"images/\x000.png\n",
    "binary": lambda folder, rng: rng.bytes(500),
    "only-itself": _text("list.txt"),
    "only-a-folder": _text("images"),
    "name-too-long": _text("n" * 5000),
}


def _place(kind: str, folder: Path, rng: Rng) -> Action:
    path = folder / "data"
    if kind == "empty-folder":
        path.mkdir()
    elif kind == "hidden-only":
        runs.images(path / ".hidden", rng)
    elif kind == "looping-link":
        os.symlink("data", path)
    elif kind == "fifo":
        os.mkfifo(path)
    return action(folder, path)


FIXED = [
    *(
        Case(GROUP, f"good/{name}", partial(_listed, make), "worked")
        for name, make in _GOOD.items()
    ),
    *(Case(GROUP, f"bad/{name}", partial(_listed, make), "refused") for name, make in _BAD.items()),
    *(
        Case(GROUP, f"place/{kind}", partial(_place, kind), "refused")
        for kind in ("missing", "empty-folder", "hidden-only", "looping-link", "fifo")
    ),
    *(
        Case(GROUP, f"tool/{name}", partial(_listed, _BAD[name]), "refused", process=True)
        for name in ("latin-1", "all-missing", "nul")
    ),
]


def drawn(number: int) -> Case:
    """A list of good and odd lines, or one whose bytes are spoilt."""
    return Case(GROUP, f"drawn/{number}", partial(_listed, _spoilt if number % 3 == 0 else _mixed))
