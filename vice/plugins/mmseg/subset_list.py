"""The list of the images that a few-shot evaluation has fitted on."""

from __future__ import annotations

from typing import Any

from vice.datasets.labelled_set import list_checksum
from vice.evaluation.task import Task
from vice.names import printable
from vice.runtime.files import write_text

SUBSET_NAME = "subset.txt"


def write_subset(names: list[str], task: Task) -> dict[str, Any]:
    """Writes ``subset.txt``, a name a line, and says what it holds.

    Args:
        names: Stems of the images.
        task: Says where to.

    Returns:
        For ``results.json``: ``images``, ``checksum`` and ``file``.
    """
    write_text(task.out_dir / SUBSET_NAME, "".join(map(_line, names)))
    return {"images": len(names), "checksum": list_checksum(names), "file": SUBSET_NAME}


def _line(name: str) -> str:
    """A name on a line; one with a line break in it as it is shown elsewhere."""
    return f"{printable(name) if len(name.splitlines()) > 1 else name}\n"
