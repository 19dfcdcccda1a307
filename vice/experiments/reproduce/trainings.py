"""Trains a run where it is not done: here, or by handing it to SLURM."""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vice.experiments.reproduce.plan import ReproducePlan, Run
from vice.experiments.train import submit, train
from vice.models.training_state import final_state
from vice.runtime.files import make_folder, read_json, write_json
from vice.runtime.health_log import read_health
from vice.runtime.run_folder import RECORD_NAME, WEIGHTS_NAME, read_config

#: What a line of the health log counts of the images that went through the network.
COUNTED = ("views_trained", "views_forward_only")


def is_done(folder: Path) -> bool:
    """Whether a run has ended, and its weights are there."""
    return final_state(folder) is not None and (folder / WEIGHTS_NAME).is_file()


class Waiting(Exception):
    """A training is in SLURM's hands; the same command goes on later."""


def ensure_trained(run: Run, folder: Path, images: Path, plan: ReproducePlan) -> None:
    """Trains, resumes or submits a run; one that is done is left as it is.

    Args:
        run: The run.
        folder: Its folder.
        images: What it is trained on.
        plan: What the user asks for.

    Raises:
        UserError: Training says what is wrong.
        RuntimeError: Training crashed.
        Waiting: It was submitted, now or before.
        NotDone: As `ReproducePlan.require`.
    """
    if is_done(folder):
        return
    plan.require(folder)
    if plan.slurm:
        raise Waiting(_submitted(run, folder, images, plan))
    start, busy = time.monotonic(), _children_seconds()
    try:
        train(run.config, images, folder, run.overrides)
    finally:
        # Calls that are stopped or fail: the next one goes on with what they have computed.
        if folder.is_dir():
            taken = {
                "seconds": time.monotonic() - start,
                "processor_seconds": _children_seconds() - busy,
            }
            known = _record(folder)
            _write_record(
                folder,
                {name: round(known.get(name, 0.0) + value, 1) for name, value in taken.items()},
            )
    _write_record(folder, dataclasses.asdict(run))


def training_seconds(folder: Path) -> dict[str, float]:
    """How long a run took on this machine, all its calls together but for those that were killed.

    Returns:
        Where it is known ``seconds`` by the clock, and ``processor_seconds`` of all its processes,
        which say more where the machine did other work as well.
    """
    record = _record(folder)
    return {name: record[name] for name in ("seconds", "processor_seconds") if name in record}


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def passes(folder: Path) -> tuple[int, int] | None:
    """Images, views and crops that went through a run's networks, on all ranks.

    Returns:
        How many forward and backward, and how many forward alone; None where it was not counted.
    """
    lines = read_health(folder)
    if not lines or any("views_trained" not in line for line in lines):
        return None
    trained, only = (sum(line[name] for line in lines) for name in COUNTED)
    return trained, only


def computed_in(folder: Path) -> str | None:
    """What a run's network multiplies in, which its name does not say; None where nothing says.

    Returns:
        ``"float32"``, ``"bfloat16"`` or ``"mixed precision"`` of VISSL; a run that was left to what
        is faster holds what was found.
    """
    model = read_config(folder).get("MODEL", {})
    execution = model.get("TRUNK", {}).get("EXECUTION", {})
    if "precision" not in execution:
        return None
    mixed = model.get("AMP_PARAMS", {}).get("USE_AMP", False)
    return str(execution["precision"] or ("mixed precision" if mixed else "float32"))


def _submitted(run: Run, folder: Path, images: Path, plan: ReproducePlan) -> str:
    from vice.runtime.slurm import job_state

    known = _record(folder).get("job")
    state = job_state(known) if known else ""
    if state:
        return f"job {known} is {state}"
    make_folder(folder)
    job = submit(run.config, images, folder, run.overrides)
    _write_record(folder, {"job": job})
    return f"submitted job {job}"


def _record(folder: Path) -> dict[str, Any]:
    file = folder / RECORD_NAME
    record: dict[str, Any] = read_json(file, "delete it") if file.is_file() else {}
    return record


def _write_record(folder: Path, content: Mapping[str, Any]) -> None:
    write_json(folder / RECORD_NAME, {**_record(folder), **content}, default=str)
