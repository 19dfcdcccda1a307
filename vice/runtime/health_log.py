"""Health log: a record for each step, kept as JSON lines, and alarms with a remedy."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vice.runtime.patient_file import PatientFile
from vice.runtime.run_folder import HEALTH_NAME

logger = logging.getLogger(__name__)


class HealthLog:
    """JSON lines, one a step or an epoch, in a run folder.

    A disk that is full costs no training: lines that it does not take wait, and are tried again
    with the next one.

    Args:
        folder: The run folder.
        resume_at: Iteration that training (re)starts at; later lines of an earlier attempt are
            dropped, so that each iteration has one line.
        name: Of the file.
    """

    def __init__(self, folder: str | Path, resume_at: int = 0, name: str = HEALTH_NAME) -> None:
        self.path = Path(folder) / name
        kept = [line for line in read_health(self.path) if line["iteration"] < resume_at]
        self._file = PatientFile(self.path, "".join(map(_line, kept)).encode())
        self._file.flush()

    def write(self, record: dict[str, Any]) -> None:
        """Appends one record."""
        self._file.add(_line(record).encode())
        self._file.flush()


def read_health(path: str | Path) -> list[dict[str, Any]]:
    """Reads the records of a run.

    Args:
        path: ``health.jsonl`` or the run folder that holds it, or another file of a `HealthLog`.

    Returns:
        The records in order; none when the file is missing. A last line cut short by a kill is
        left out.
    """
    file = Path(path)
    file = file / HEALTH_NAME if file.is_dir() else file
    # Race: a run folder may come into being between two looks at it.
    if not file.is_file():
        return []
    return list(_parse(file.read_text(encoding="utf-8", errors="replace").splitlines()))


def _parse(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and "iteration" in record:
            yield record


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True) + "\n"
