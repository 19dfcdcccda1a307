"""One training as a process of its own, so that whatever happens to it ends nothing else."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.files import make_folder
from vice.foreign import brief
from vice.paths import tool
from vice.regular_file import open_regular

logger = logging.getLogger(__name__)

_PROGRESS_SECONDS = 10.0


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
        UserError: The run folder belongs to other images, or training says what is wrong.
    """
    images = images.absolute()
    known = read_config(run_dir)
    if known and known["DATA"]["TRAIN"]["DATA_PATHS"] != [str(images)]:
        raise UserError(
            f"{run_dir} was trained on {known['DATA']['TRAIN']['DATA_PATHS'][0]}; choose another "
            "output folder (make demo OUT=..., or --out) or delete it"
        )
    make_folder(run_dir)
    _check(*_follow(_command(config, images, run_dir, overrides), run_dir))
    return run_dir


def submit(config: str, images: Path, run_dir: Path, overrides: Sequence[str] = ()) -> str:
    """Hands a training to SLURM, as `train` runs it here.

    Args:
        config: Name of the experiment.
        images: Training images.
        run_dir: Checkpoint folder.
        overrides: Further Hydra overrides; ``config.SLURM.PARTITION`` must be among them.

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


def _command(config: str, images: Path, run_dir: Path, overrides: Sequence[str]) -> list[str]:
    return [
        sys.executable,
        str(tool("run_distributed.py")),
        f"config={config}",
        f"config.DATA.TRAIN.DATA_PATHS=[{quote(images)}]",
        f"config.CHECKPOINT.DIR={quote(run_dir.absolute())}",
        *overrides,
    ]


def _check(status: int, errors: str) -> None:
    if status == 2:
        raise UserError(errors.strip().splitlines()[-1].removeprefix("error: "))
    if status:
        raise RuntimeError(f"training ended with status {status}\n{errors}")


_TOTAL = re.compile(r"Total (\d+) iterations for training")
_STEP = re.compile(r"iter: (\d+);.* loss: ([^;]+);.* eta: ([^;]+);")


def _follow(command: list[str], run_dir: Path) -> tuple[int, str]:
    """Runs a training and passes on its progress; VISSL keeps the whole log in the run folder.

    Returns:
        Exit status and what came on stderr.
    """
    logger.info("training; the whole log goes to %s", run_dir / "log.txt")
    total, shown = "?", time.monotonic()
    with tempfile.TemporaryFile("w+", errors="backslashreplace") as errors:
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="backslashreplace",
            bufsize=1,
        ) as process:
            for line in process.stdout or ():
                if planned := _TOTAL.search(line):
                    total = planned.group(1)
                step = _STEP.search(line)
                if step and time.monotonic() - shown > _PROGRESS_SECONDS:
                    shown = time.monotonic()
                    done, loss, left = step.groups()
                    logger.info(
                        "training: step %s of %s, loss %s, %s left", done, total, loss, left
                    )
        errors.seek(0)
        return process.returncode, errors.read()


def quote(path: Path) -> str:
    """A path as a value in Hydra's grammar, whatever characters it holds."""
    # Inside quotes, a backslash is special only before a quote.
    text = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + m[2].replace("'", "\\'"), str(path))
    return f"'{text}'"


def read_config(run_dir: Path) -> dict[str, Any]:
    """The resolved configuration of a run; empty where there is none yet.

    Only plain YAML is read: no tag makes an object, and no ``${...}`` is looked up.

    Raises:
        UserError: It is not whole, or no plain YAML.
    """
    import yaml

    path = run_dir / "train_config.yaml"
    if not path.exists():
        return {}
    remedy = "training writes it at its start: copy it from the run folder"
    try:
        with open_regular(path) as file:
            found = yaml.safe_load(file)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not whole ({brief(error)}); {remedy}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no configuration; {remedy}")
    return found
