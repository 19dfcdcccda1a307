"""Hostile SLURM settings, with commands in SLURM's place that keep what they are given."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import configs
from tests.hostile.case import MARKER, Action, Case

Rng = np.random.Generator
GROUP = "SLURM settings"
SHARE = 0.06
#: Keeps the script it is given, and runs the lines of it that are not meant for SLURM but the
#: last, which starts the job: what a setting has smuggled in would run there.
ACCEPTS = """#!/bin/sh
cp "$1" submitted.sh
grep -v -e '^#' -e srun submitted.sh > smuggled.sh
sh smuggled.sh
echo "Submitted batch job 42"
"""
REFUSES = """#!/bin/sh
echo "sbatch: error: invalid partition specified: nowhere" >&2
exit 1
"""
SILENT = "#!/bin/sh\nexit 1\n"
UNREACHED = """#!/bin/sh
echo "sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host" >&2
exit 1
"""
STRANGE = "#!/bin/sh\necho 'no number here'\n"
BASE = ("config.SLURM.USE_SLURM=true", "config.SLURM.PARTITION=gpu", "config.SLURM.MEM_GB=4",
        "config.MACHINE.DEVICE=cpu")  # fmt: skip


def _submission(
    more: list[str], names: tuple[str, ...], sbatch: str, folder: Path, rng: Rng
) -> Action:
    commands = folder / "bin"
    commands.mkdir()
    for name, text in {"sbatch": sbatch, "srun": "#!/bin/sh\n"}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(stat.S_IRWXU)
    action = configs.action(folder, rng, [*BASE, *more], *names)
    overrides = list(action.command[1:])

    def submit() -> Any:
        from vice.plugins.vissl.train import train

        return train(overrides)

    return Action(
        run=submit,
        command=action.command,
        names=names,
        check=partial(_is_submitted, folder),
        writes=action.writes,
        environment={"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"},
    )


def _is_submitted(folder: Path, said: str) -> str | None:
    if said != "submitted job 42":
        return f"said {said!r}"
    script = (folder / "submitted.sh").read_text()
    odd = [
        line for line in script.splitlines()[1:]
        if line.strip() and not line.startswith("#") and not line.startswith(("srun", "export"))
    ]  # fmt: skip
    return f"lines of the script that nobody meant: {odd}" if odd else None


def _text(key: str, text: str) -> list[str]:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return [f"config.SLURM.{key}='{quoted}'"]


_MORE = "config.SLURM.ADDITIONAL_PARAMETERS"
_SHELL = f"$(touch {MARKER}); `touch {MARKER}` | touch {MARKER} && touch {MARKER}"
_LINES = f"a\ntouch {MARKER}\n"
_BAD_NUMBERS = ("abc", "-1", "1.5", "nan", "null", "[]", "99999999999999", "true", "''")
_NUMBERS = ("TIME_HOURS", "TIME_MINUTES", "MEM_GB", "NUM_CPU_PER_PROC", "PORT_ID")
_TEXTS = ("NAME", "COMMENT", "PARTITION", "CONSTRAINT")
_WORKED: dict[str, list[str]] = {
    "plain": [],
    "name-with-spaces": _text("NAME", "my first run"),
    "many-nodes": [
        "config.DISTRIBUTED.NUM_NODES=1000",
        "config.VICE.DATASET.min_images_per_epoch=2000",
    ],
    **{f"shell-in-{key.lower()}": _text(key, _SHELL) for key in _TEXTS},
    **{f"quotes-in-{key.lower()}": _text(key, "a\"b'c\\") for key in ("NAME", "COMMENT")},
    "more-options": ["+config.SLURM.ADDITIONAL_PARAMETERS.qos=high"],
    "shell-in-more": [f"+config.SLURM.ADDITIONAL_PARAMETERS.qos='$(touch {MARKER})'"],
    "more-without-plus": [f"{_MORE}.gres=gpu:a100:4"],
    "more-as-a-group": [f"{_MORE}={{qos: high}}"],
    "no-partition": ["config.SLURM.PARTITION=''"],
    "blank-partition": ["config.SLURM.PARTITION='  '"],
    "minutes-only": ["config.SLURM.TIME_HOURS=0", "config.SLURM.TIME_MINUTES=10"],
    "log-folder-with-spaces": ["config.SLURM.LOG_FOLDER='a log; touch code_ran'"],
}
_REFUSED: dict[str, tuple[list[str], tuple[str, ...]]] = {
    **{
        f"{key.lower()}/{value}": ([f"config.SLURM.{key}={value}"], (f"config.SLURM.{key}",))
        for key in _NUMBERS
        for value in _BAD_NUMBERS
    },
    **{
        f"lines-in-{key.lower()}": (_text(key, _LINES), (f"config.SLURM.{key}",))
        for key in (*_TEXTS, "LOG_FOLDER")
    },
    **{
        f"{key.lower()}/a-list": ([f"config.SLURM.{key}=[a]"], (f"config.SLURM.{key}",))
        for key in _TEXTS
    },
    "no-time": (["config.SLURM.TIME_HOURS=0"], ("config.SLURM.TIME_HOURS",)),
    "no-nodes": (["config.DISTRIBUTED.NUM_NODES=0"], ("NUM_NODES",)),
    "negative-nodes": (["config.DISTRIBUTED.NUM_NODES=-4"], ("NUM_NODES",)),
    "absurd-nodes": (["config.DISTRIBUTED.NUM_NODES=1000000000"], ("NUM_NODES",)),
    "switch": (["config.SLURM.USE_SLURM=perhaps"], ("config.SLURM.USE_SLURM",)),
    "more-a-list": ([f"{_MORE}=[qos]"], (_MORE,)),
    "more-with-lines": ([f"+{_MORE}.qos='{_LINES}'"], (_MORE,)),
    "log-folder-is-a-file": (["config.SLURM.LOG_FOLDER=run/vice.json"], ("SLURM.LOG_FOLDER",)),
    "misspelt": (["config.SLURM.PARTITON=gpu"], ("config.SLURM.PARTITON",)),
}  # fmt: skip
_ANSWERS = {
    "refuses": (REFUSES, ("invalid partition specified: nowhere",)),
    "unreached": (UNREACHED, ("no SLURM controller answers here",)),
    "silent": (SILENT, ("sbatch",)),
    "strange": (STRANGE, ("no number here",)),
}

FIXED = [
    *(
        Case(GROUP, f"worked/{name}", partial(_submission, more, (), ACCEPTS), "worked")
        for name, more in _WORKED.items()
    ),
    *(
        Case(GROUP, f"refused/{name}", partial(_submission, *rest, ACCEPTS), "refused")
        for name, rest in _REFUSED.items()
    ),
    *(
        Case(GROUP, f"answer/{name}", partial(_submission, [], said, script), "refused")
        for name, (script, said) in _ANSWERS.items()
    ),
    Case(
        GROUP,
        "tool/no-time",
        partial(_submission, *_REFUSED["no-time"], ACCEPTS),
        "refused",
        process=True,
    ),
    Case(
        GROUP,
        "tool/lines-in-comment",
        partial(_submission, *_REFUSED["lines-in-comment"], ACCEPTS),
        "refused",
        process=True,
    ),
    Case(
        GROUP,
        "tool/shell-in-name",
        partial(_submission, _WORKED["shell-in-name"], (), ACCEPTS),
        "worked",
        process=True,
    ),
]


def _random_text(folder: Path, rng: Rng) -> Action:
    letters = [*"abc 0-_.,:;|&<>()[]{}*?!#~%^=+/@\t\n'\"`$é木", f"touch {MARKER}"]
    key = _TEXTS[int(rng.integers(len(_TEXTS)))]
    text = "".join(rng.choice(letters, int(rng.integers(1, 20))))
    return _submission(_text(key, text), (f"config.SLURM.{key}", key), ACCEPTS, folder, rng)


def drawn(number: int) -> Case:
    """A random text for a setting."""
    return Case(GROUP, f"text/{number}", _random_text)
