"""The commands that documents and ``--help`` texts show, and bash's reading of them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.forked import ROOT

PROGRAMS = ("python", "make", "sbatch", "torchrun", "source", "vice", "pip")
#: Variables that a command may set for itself.
VARIABLES = ("VICE_DATA", "PYTHONPATH")
#: Stands in for every program: says how it was called; fields for its name and the variables first.
_SHIM = """\
{name}() {{ printf 'call\\0{name}\\0'; printf '%s\\0' {values} "$@"; }}
"""


@dataclass(frozen=True)
class Call:
    """A program as bash starts it.

    Attributes:
        program: Its name.
        arguments: Its arguments.
        environment: Variables that stand before it.
    """

    program: str
    arguments: list[str]
    environment: dict[str, str]


def fenced(text: str) -> Iterator[str]:
    """The commands of Markdown's blocks of shell, as they stand, without comments."""
    for block in re.finditer(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from one_a_line(block[1])


def one_a_line(text: str) -> Iterator[str]:
    """Commands with their continued lines."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        command = re.sub(r"\s+#.*", "", " ".join(line.split(None)))
        if command and not command.startswith("#"):
            yield command


def inline(text: str) -> list[str]:
    """What stands between backticks outside of blocks, lines joined."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(match[1].split()) for match in re.finditer(r"`([^`]+)`", prose)]


def examples(tool: Path) -> list[str]:
    """The commands under ``Examples:`` of a tool's own text."""
    tree = ast.parse(tool.read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    found = []
    for text in texts:
        if isinstance(text, str) and f"python tools/{tool.name} " in f"{text} ":
            lines = re.sub(r"\s*\\\n\s*|(?<=\w)[ ]{2,}(?=config\.)", " ", text).splitlines()
            found += [line for line in lines if line.strip().startswith("python ")]
    return list(one_a_line("\n".join(line for line in found if "=NAME" not in line)))


def call(command: str, folder: Path) -> Call:
    """How bash starts the program of a command in a folder."""
    values = " ".join(f'"${{{name}-}}"' for name in VARIABLES)
    script = "".join(_SHIM.format(name=name, values=values) for name in PROGRAMS) + command
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        capture_output=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name not in VARIABLES},
    )
    mark, program, *fields = done.stdout.decode().split("\0")[:-1]
    assert mark == "call" and not done.stderr, (command, done)
    given = zip(VARIABLES, fields, strict=False)
    environment = {name: value for name, value in given if value}
    return Call(program, fields[len(VARIABLES) :], environment)


def of_script(script: Path, arguments: list[str], folder: Path) -> list[str]:
    """What a SLURM script gives to ``python`` inside a job."""
    shims = (
        'srun() { while [ "$1" != python ]; do shift; done; "$@"; }\n'
        "squeue() { :; }\n"
        "python() { printf '%s\\0' \"$@\"; }\n"
        "export SLURM_CPUS_PER_TASK=2 SLURM_JOB_ID=1\n"
    )
    text = shims + script.read_text(encoding="utf-8")
    done = subprocess.run(
        ["bash", "-c", text, str(script), *arguments], cwd=folder, capture_output=True, check=True
    )
    return done.stdout.decode().split("\0")[:-1]


def documents() -> list[Path]:
    """The README and all of ``docs``."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
