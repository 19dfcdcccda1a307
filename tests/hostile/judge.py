"""Runs a case as its user would and says what came of it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import resource
import signal
import subprocess
import sys
import traceback
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.case import MARKER, Action, Case, Verdict
from vice.cli import run

TOOLS = Path(__file__).parents[2] / "tools"
SECONDS = 30.0
PROCESS_SECONDS = 240.0
#: Address space that an action may take beyond what the process has.
MEMORY = 3 * 2**30
_ERROR = re.compile(r"^(?:\S+: )?error: .+", re.M)


class Hang(BaseException):
    """The time limit; no library catches it."""


@dataclass
class Ending:
    """How an action ended, as its terminal shows it."""

    status: int
    text: str
    result: Any = None


def judge(case: Case, seed: int, folder: Path) -> Verdict:
    """Makes the files of a case in a folder of its own, runs it and judges it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, zlib.crc32(f"{case.group}/{case.name}".encode())])
    with _inside(folder, {}):
        action = case.make(folder, rng)
    before = snapshot(folder)
    try:
        with _inside(folder, action.environment):
            start = in_process if case.process or action.run is None else in_place
            ending = start(action)
    except (Hang, subprocess.TimeoutExpired):
        return Verdict("hang")
    return _verdict(case, action, ending, before, folder)


def _verdict(
    case: Case, action: Action, ending: Ending, before: dict[str, str], folder: Path
) -> Verdict:
    failed = ending.status != 0
    lost = _lost(before, snapshot(folder), () if failed else action.writes, folder)
    if (folder / MARKER).exists():
        return Verdict("code ran")
    if lost:
        return Verdict("lost something", lost)
    if "Traceback (most recent call last)" in ending.text:
        return Verdict("traceback", ending.text[-1500:])
    if failed:
        return _refusal(case, action, ending)
    if case.expected == "refused":
        return Verdict("wrong", "bad input was taken")
    wrong = None if case.process else action.check(ending.result)
    return Verdict("wrong", wrong) if wrong else Verdict("worked")


def _refusal(case: Case, action: Action, ending: Ending) -> Verdict:
    found = _ERROR.findall(ending.text)
    if len(found) != 1:
        return Verdict("no message", ending.text[-500:])
    if case.expected == "worked":
        return Verdict("wrong", f"good input was refused: {found[0]}")
    if action.names and not any(name in found[0] for name in action.names):
        return Verdict("no message", f"none of {action.names} is named: {found[0]}")
    return Verdict("refused", found[0])


def in_place(action: Action) -> Ending:
    """Runs the action in this process, through the error handling of the command lines."""
    assert action.run is not None
    results: list[Any] = []
    terminal = io.StringIO()
    with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal), _limits():
        try:
            run(lambda: results.append(action.run()))
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except Exception:
            terminal.write(traceback.format_exc())
            status = 1
    return Ending(status, terminal.getvalue(), results[0] if results else None)


def in_process(action: Action) -> Ending:
    """Starts the tool itself."""
    tool, *arguments = action.command
    done = subprocess.run(
        [sys.executable, str(TOOLS / tool), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=PROCESS_SECONDS,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )
    return Ending(done.returncode, done.stdout)


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    def late(number: int, frame: Any) -> None:
        raise Hang

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    previous = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def _inside(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    previous, kept = Path.cwd(), os.environ.copy()
    os.chdir(folder)
    # Tools start with the package of this checkout, wherever they are started.
    paths = [str(TOOLS.parent), kept.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ.update(environment)
    try:
        yield
    finally:
        os.chdir(previous)
        os.environ.clear()
        os.environ.update(kept)


def snapshot(folder: Path) -> dict[str, str]:
    """Every entry below a folder: its kind, and of files the content."""
    found = {}
    for current, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(current, name)
            if os.path.islink(path):
                found[path] = f"link {os.readlink(path)}"
            elif os.path.isfile(path):
                found[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            else:
                found[path] = "folder"
    return found


def _lost(
    before: dict[str, str], after: dict[str, str], writes: tuple[Path, ...], folder: Path
) -> str:
    """The first entry that has changed or gone although nobody may touch it."""
    for path, content in before.items():
        free = any(Path(path) == own or own in Path(path).parents for own in writes)
        if not free and after.get(path) != content:
            return f"{path.removeprefix(str(folder))} {'changed' if path in after else 'deleted'}"
    return ""
