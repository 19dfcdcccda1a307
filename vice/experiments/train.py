"""One training as a process of its own, so that whatever happens to it ends nothing else."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from vice.errors import UserError
from vice.paths import tool
from vice.runtime.files import make_folder
from vice.runtime.interrupts import end_now
from vice.runtime.overrides import quote
from vice.runtime.preemption import SIGNALS, STOPPED, Preempted
from vice.runtime.run_folder import read_config


def train(config: str, images: Path, run_dir: Path, overrides: Sequence[str] = ()) -> Path:
    """Runs ``tools/run_distributed.py``; a finished run is left as it is.

    Args:
        config: Name of the experiment.
        images: Training images.
        run_dir: Checkpoint folder.
        overrides: Further Hydra overrides.

    Returns:
        The run folder.

    Raises:
        UserError: The run folder belongs to other images, an override says once more what the
            arguments say, or training says what is wrong.
        KeyboardInterrupt: Ctrl-C; the training has ended, and saved what there was to save.
        Preempted: Another signal that asks to stop; likewise.
    """
    images = images.absolute()
    known = read_config(run_dir)
    if known and known["DATA"]["TRAIN"]["DATA_PATHS"] != [str(images)]:
        raise UserError(
            f"{run_dir} was trained on {known['DATA']['TRAIN']['DATA_PATHS'][0]}; choose another "
            "output folder (make demo OUT=..., or --out) or delete it"
        )
    make_folder(run_dir)
    _check(*_follow(_command(config, images, run_dir, overrides)))
    return run_dir


def submit(config: str, images: Path, run_dir: Path, overrides: Sequence[str] = ()) -> str:
    """Hands a training to SLURM, as `train` runs it here.

    Args:
        config: Name of the experiment.
        images: Training images.
        run_dir: Checkpoint folder.
        overrides: Further Hydra overrides; ``config.SLURM.PARTITION`` among them where the
            cluster has no default one.

    Returns:
        The job's number.

    Raises:
        UserError: Training, or SLURM, says what is wrong.
    """
    slurm = [*overrides, "config.SLURM.USE_SLURM=true"]
    command = _command(config, images.absolute(), run_dir, slurm)
    done = subprocess.run(
        command, capture_output=True, text=True, errors="backslashreplace", check=False
    )
    _check(done.returncode, done.stderr)
    return done.stdout.strip().splitlines()[-1].removeprefix("submitted job ")


def _check_overrides(overrides: Sequence[str]) -> None:
    """Refuses what the call itself says: where the images are, and where the run goes."""
    taken = {
        "config.DATA.TRAIN.DATA_PATHS": "the images are an option of their own",
        "config.CHECKPOINT.DIR": "the output folder is an option of its own",
    }
    for text in overrides:
        reason = taken.get(text.partition("=")[0].lstrip("+~"))
        if reason:
            raise UserError(f"{text}: {reason} here: leave this out (see --help)")


def _command(config: str, images: Path, run_dir: Path, overrides: Sequence[str]) -> list[str]:
    _check_overrides(overrides)
    return [
        sys.executable,
        str(tool("run_distributed.py")),
        f"config={config}",
        f"config.DATA.TRAIN.DATA_PATHS=[{quote(images)}]",
        f"config.CHECKPOINT.DIR={quote(run_dir.absolute())}",
        *overrides,
    ]


def _check(status: int, errors: str) -> None:
    lines = errors.strip().splitlines() or [""]
    if status == 2:
        raise UserError(lines[-1].removeprefix("error: "))
    if status == STOPPED:
        raise Preempted(lines[-1])
    if status:
        raise RuntimeError(f"training ended with status {status}\n{errors}")


#: A line of the log, as `vice.cli` writes it.
_LOGGED = re.compile(r"\d\d:\d\d:\d\d ")


def _follow(command: list[str]) -> tuple[int, str]:
    """Runs a training and shows the progress that it tells; what stops this stops it as well.

    Returns:
        Exit status and what else came on stderr.

    Raises:
        KeyboardInterrupt: Ctrl-C; the training has saved itself and ended.
    """
    errors: list[str] = []
    with _started(command) as process:
        for line in process.stderr or ():
            if _LOGGED.match(line):
                sys.stderr.write(line)
                sys.stderr.flush()
            else:
                errors.append(line)
    return process.returncode, "".join(errors)


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A training that this process does not outlive: it is told of signals, and waited for.

    It is told by SIGTERM, since a terminal has sent it a Ctrl-C of its own, and a second one ends
    all at once.
    """
    asked: list[int] = []
    started: list[subprocess.Popen[str]] = []

    def tell(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in asked:
            end_now("stopped at once by a second SIGINT")
        asked.append(number)
        for process in started:
            process.send_signal(signal.SIGTERM)

    before = _handle_with(tell)
    try:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            bufsize=1,
        )
        started.append(process)
        if asked:
            process.send_signal(signal.SIGTERM)
        yield process
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        name = signal.Signals(asked[0]).name
        saved = "it is saved" if process.returncode in (0, STOPPED) else "it had nothing to save"
        said = f"stopped by {name} in a training: {saved}, the same command goes on"
        raise KeyboardInterrupt(said) if signal.SIGINT in asked else Preempted(said)


def _handle_with(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Sets a handler for all signals that ask to stop; those before it, by number."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    return before
