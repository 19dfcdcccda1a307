"""Output folders that hold files of somebody else: told apart before anything is written."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from vice.errors import MissingPart, UserError
from vice.names import printable
from vice.runtime.files import read_json
from vice.runtime.result_folders import BOUNDARIES_NAME, LOGS_NAME, result_folders
from vice.runtime.run_folder import (
    ARCHITECTURE_NAME,
    CARD_NAME,
    CONFIG_NAME,
    EXPLORER_RECORD_NAME,
    FOUND_NAME,
    HEALTH_NAME,
    HELD_OUT_NAME,
    LAUNCH_LOCK_NAME,
    LOCK_NAME,
    MASKS_RECORD_NAME,
    OVERRIDES_NAME,
    PER_IMAGE_NAME,
    RESULTS_NAME,
    SELECTION_RECORD_NAME,
    STATE_SUFFIX,
    WEIGHTS_NAME,
    read_config,
)

#: What lies together in folders that ViCE has written (masks, explorer, run), and nowhere else.
_TOGETHER = (
    {MASKS_RECORD_NAME, "masks"},
    {EXPLORER_RECORD_NAME, "index.html"},
    {ARCHITECTURE_NAME, CONFIG_NAME},
)
#: What folders hold, by the record that lies in them.
_KINDS = {
    MASKS_RECORD_NAME: "masks",
    EXPLORER_RECORD_NAME: "an explorer",
    SELECTION_RECORD_NAME: "a selection of images",
    CONFIG_NAME: "a training",
}
#: What a training writes over.
_OF_RUNS = (
    CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, ARCHITECTURE_NAME, FOUND_NAME, OVERRIDES_NAME,
    HEALTH_NAME, HELD_OUT_NAME,
)  # fmt: skip
#: What an evaluation writes over.
_OF_RESULTS = (RESULTS_NAME, PER_IMAGE_NAME, "samples.png", "confusion.png")
#: Entries one of which all results have, those of version 0.1 too, and one of the demo's alone.
_SAID_BY_RESULTS, _SAID_BY_DEMO = ("kind", "protocol", "versions"), ("training",)


def is_written(names: Iterable[str]) -> bool:
    """Whether files and folders are together those of a folder of masks, an explorer or a run.

    Args:
        names: What lies in a folder.
    """
    there = set(names)
    return any(each <= there for each in _TOGETHER)


def keep_others(folder: Path, written: Iterable[str], *, ours: bool) -> None:
    """Refuses to write over what somebody else has put into a folder.

    Args:
        folder: The output folder, which need not be there.
        written: Names in it that are going to be written.
        ours: Whether the folder is known to be one that an earlier call has made.

    Raises:
        UserError: A name is taken, and the folder is not ours.
    """
    taken = None if ours else next((n for n in written if os.path.lexists(folder / n)), None)
    if taken is not None:
        raise UserError(
            f"{printable(str(folder / taken))} holds something else, which would be written over: "
            "choose another output folder"
        )


def keep_kinds_apart(folder: Path, record: str) -> None:
    """Refuses a folder in which another command has written, and not the one that asks.

    Args:
        folder: The output folder, which need not be there.
        record: What the one that asks leaves in its own.

    Raises:
        UserError: See above.
    """
    if os.path.lexists(folder / record):
        return
    for other, what in _KINDS.items():
        if os.path.lexists(folder / other):
            raise UserError(
                f"{printable(str(folder))} holds {what} ({other}): choose another output folder"
            )


def says(path: Path, keys: Collection[str]) -> bool:
    """Whether a file is JSON with one of some entries, as a record of ViCE's is."""
    try:
        content = read_json(path, "")
    except UserError:
        return False
    return any(key in content for key in keys)


def keep_others_from_run(folder: Path) -> None:
    """`keep_others` of a training; a run is known by its configuration, states or locks.

    Raises:
        UserError: See there.
    """
    marks = (LOCK_NAME, LAUNCH_LOCK_NAME)
    ours = any(os.path.lexists(folder / name) for name in marks) or any(
        folder.glob(f"*{STATE_SUFFIX}")
    )
    keep_kinds_apart(folder, CONFIG_NAME)
    keep_others(folder, _OF_RUNS, ours=ours or _is_config(folder))


def keep_others_from_results(folder: Path) -> None:
    """`keep_others` of an evaluation, which is known by its logs or its results.

    Raises:
        UserError: See there; or folders inside hold results, as those of several read-outs do.
    """
    # Damaged results are of this evaluation, too: the remedy is to evaluate again.
    logs = (folder / LOGS_NAME).is_dir()
    keep_kinds_apart(folder, RESULTS_NAME)
    keep_others(folder, _OF_RESULTS, ours=logs or _is_result(folder / RESULTS_NAME))
    if os.path.lexists(folder / RESULTS_NAME):
        return
    files = [place / RESULTS_NAME for place in result_folders(folder)]
    inside = next((file for file in files if says(file, _SAID_BY_RESULTS)), None)
    if inside is not None:
        raise UserError(
            f"{printable(str(folder))} holds the results of several evaluations "
            f"({printable(str(inside.relative_to(folder)))}), and this is one: choose another "
            "output folder"
        )


def keep_others_from_read_outs(folder: Path, kinds: Iterable[str]) -> None:
    """`keep_others` of several read-outs, each of which gets a folder by its kind.

    Args:
        folder: The output folder, which need not be there.
        kinds: What the folders may be called, without that of outlines.

    Raises:
        UserError: See there; or the folder holds results itself, as those of one evaluation do.
    """
    for kind in kinds:
        keep_others_from_results(folder / kind)
    for place in result_folders(folder / BOUNDARIES_NAME)[1:]:
        keep_others_from_results(place)
    for place in (folder, folder / BOUNDARIES_NAME):
        if os.path.lexists(place / RESULTS_NAME):
            raise UserError(
                f"{printable(str(place))} holds the results of one evaluation ({RESULTS_NAME}), "
                "and several read-outs get a folder each: choose another output folder"
            )


def keep_others_from_demo(folder: Path) -> None:
    """`keep_others` of the demo, which is known by its training.

    Raises:
        UserError: See there.
    """
    ours = says(folder / RESULTS_NAME, _SAID_BY_DEMO) or (folder / "train").is_dir()
    keep_others(folder, (RESULTS_NAME, "report.html", "pictures"), ours=ours)


def _is_result(file: Path) -> bool:
    return says(file, _SAID_BY_RESULTS) and not says(file, _SAID_BY_DEMO)


def _is_config(folder: Path) -> bool:
    try:
        return "VICE" in read_config(folder)
    except MissingPart:
        raise
    except (UserError, TypeError):
        return False
