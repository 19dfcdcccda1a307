"""Where results lie: in a folder, and in folders inside it, by read-out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vice.runtime.run_folder import RESULTS_NAME

#: Where an evaluation keeps what belongs to its own results: logs, and predictions as pictures.
LOGS_NAME = "runner"
MAPS_NAME = "maps"
_INSIDE = (LOGS_NAME, MAPS_NAME)
#: Read-out of `vice score` that has results for each number of clusters.
BOUNDARIES_NAME = "boundaries"


def folders_within(folder: Path, levels: int = 1) -> Iterator[Path]:
    """A folder and all in it that could hold results, by name.

    Args:
        folder: Need not be there.
        levels: How far down; 1 for the output folder of `vice score`.
    """
    yield folder
    if levels < 1:
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return
    for name in names:
        if name not in _INSIDE:
            more = name == BOUNDARIES_NAME and folder.name != BOUNDARIES_NAME
            yield from folders_within(folder / name, max(levels - 1, int(more)))


def result_folders(folder: Path, levels: int = 1) -> list[Path]:
    """Those of `folders_within` that hold results."""
    return [place for place in folders_within(folder, levels) if has_results(place)]


def has_results(folder: Path) -> bool:
    """Whether there are results in a folder itself."""
    return (folder / RESULTS_NAME).is_file()
