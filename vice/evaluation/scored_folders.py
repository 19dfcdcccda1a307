"""Folders that evaluations have written: what they hold, and which of them are not whole."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.evaluation.protocol_effects import KINDS
from vice.evaluation.whole_results import check_whole
from vice.nearest import near_path
from vice.runtime.files import read_json
from vice.runtime.result_folders import LOGS_NAME, folders_within, has_results
from vice.runtime.run_folder import LOCK_NAME, RESULTS_NAME

logger = logging.getLogger(__name__)
#: Kinds of results that are no scores of an embedder under a protocol.
OF_THEIR_OWN = ("position", "boundaries", "masks")
#: Why a folder holds no results.
_STOPPED, _EMPTY = "its evaluation did not end", "it is empty"
#: How far down results are looked for: those of `vice score` may be in outputs/eval/NAME/KIND, as
#: are those below a folder whose own ``results.json`` is no evaluation's, the demo's.
_LEVELS = 3
#: Entries one of which all results have, whatever their kind.
_MARKS = ("protocol", "spec", "masks")
_OTHERS = "was not written by an evaluation of ViCE"


def read_results(folders: Iterable[str | Path], *, whole: bool = True) -> list[dict[str, Any]]:
    """Reads ``results.json`` of each directory; ``folder`` is added, the directory itself.

    Args:
        folders: Results directories.
        whole: Whether all must be there that a table is made of.

    Raises:
        UserError: A directory without one, one that lacks something, or one that no evaluation of
            ViCE wrote.
    """
    results = []
    for folder in _ended(folders):
        file = folder / RESULTS_NAME
        if not file.is_file():
            raise UserError(f"{folder} holds no {RESULTS_NAME}: {_where(folder)}")
        result = read_json(file, "evaluate again")
        if result.get("kind") in OF_THEIR_OWN:
            raise UserError(
                f"{file} holds the read-out {result['kind']}, which is not taken under a protocol: "
                "leave its folder out"
            )
        if result.get("kind") not in [*KINDS]:
            raise UserError(f"{file} {_OTHERS}: {_instead(folder)}")
        if "protocol" not in result:
            raise UserError(f"{file} names no protocol: it is of an older version; evaluate again")
        if whole:
            check_whole(result, file)
        results.append({**result, "folder": str(folder)})
    kinds = Counter(result["kind"] for result in results)
    named = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
    logger.info("results under protocols: %d (%s)", len(results), named)
    return results


def spread(folders: Sequence[str | Path]) -> list[Path]:
    """All folders with results, in place of those that they lie in, such as score.py's.

    Those of a folder whose evaluation was stopped are among them, to be told of. A ``results.json``
    of another origin, such as the demo's, is told of and left out, and what lies in its folder is
    taken; where there is nothing else, it stays for `read_results` to refuse.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        inside: dict[Path, None] = {}
        for place in folders_within(folder, _LEVELS):
            if _is_shown(place):
                below = _LEVELS if _is_of_others(place) else 0
                shown = (each for each in folders_within(place, below) if _is_shown(each))
                inside |= dict.fromkeys(shown)
        found += inside or [folder]
    others = [place for place in dict.fromkeys(found) if _is_of_others(place)]
    if len(others) == len({*found}):
        return found
    for place in others:
        logger.warning("left out: %s %s", place / RESULTS_NAME, _OTHERS)
    return [place for place in found if place not in others]


def divide_folders(folders: Iterable[str | Path]) -> tuple[list[Path], list[dict[str, Any]]]:
    """Parts results directories: those of other tables, and results that get one here.

    Args:
        folders: Results directories.

    Returns:
        The folders that `read_results` is for, and what the others hold, with ``folder``.
    """
    rest, own = [], []
    for folder in _ended(folders):
        file = folder / RESULTS_NAME
        result = read_json(file, "evaluate again") if file.is_file() else {}
        if result.get("kind") in OF_THEIR_OWN:
            own.append({**_origin(result, file), **result, "folder": str(folder)})
        else:
            rest.append(folder)
    return rest, own


def _origin(result: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """What stands for the embedder and the seed of masks, which any way may have made."""
    if result["kind"] != "masks":
        return {}
    source = result.get("source", {})
    names = [source.get(name) for name in ("masks", "names")] if isinstance(source, dict) else [{}]
    if not all(name is None or isinstance(name, str) for name in names):
        raise UserError(f"{file} holds the source {source!r}, which is none; evaluate again")
    return {"spec": " by ".join(name for name in names if name) or "masks", "seed": 0}


def _ended(folders: Iterable[str | Path]) -> list[Path]:
    """Folders without those of stopped evaluations, which are told of; all, if there are no others.

    A folder without results is left to whoever reads it.
    """
    places = list(map(Path, folders))
    unfinished = {place: _unfinished(place) for place in places}
    if all(unfinished.values()):
        return places
    for place, why in unfinished.items():
        if why:
            logger.warning("left out: %s holds no %s: %s", place, RESULTS_NAME, why)
    return [place for place in places if not unfinished[place]]


def _unfinished(folder: Path) -> str:
    """Why a folder holds no results, if it looks like one that is to hold some; else nothing."""
    if has_results(folder):
        return ""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return ""
    # Several read-outs: their folder has logs, too, and is not itself one of results.
    if {*names} & {*KINDS, *OF_THEIR_OWN}:
        return ""
    if any(name.partition(".")[0] == LOGS_NAME for name in names) or names == [LOCK_NAME]:
        return _STOPPED
    return "" if names else _EMPTY


def _is_of_others(folder: Path) -> bool:
    """Whether ``results.json`` of a folder is whole, and not an evaluation's that was changed."""
    try:
        result = read_json(folder / RESULTS_NAME, "", object)
    except UserError:
        # Without a file, or with a broken one: whoever reads it says so.
        return False
    if not isinstance(result, dict):
        return True
    kind = result.get("kind")
    known = isinstance(kind, str) and kind in (*KINDS, *OF_THEIR_OWN)
    return not known and not any(name in result for name in _MARKS)


def _is_shown(folder: Path) -> bool:
    """Whether a folder among others is one of results, or would be, had its evaluation ended."""
    why = _unfinished(folder)
    read_out = folder.name in (*KINDS, *OF_THEIR_OWN)
    return has_results(folder) or why == _STOPPED or (why == _EMPTY and read_out)


def _instead(folder: Path) -> str:
    """What to name instead of a folder whose ``results.json`` is no evaluation's."""
    inside = [place for place in folders_within(folder, _LEVELS) if has_results(place)][1:]
    if inside:
        return f"name the folders in it, such as {inside[0]}"
    return "name a folder that one has written"


def _where(folder: Path) -> str:
    """What to name instead of a folder without results."""
    if why := _unfinished(folder):
        return f"{why}; name a folder that an evaluation has written"
    if folder.name == RESULTS_NAME and folder.is_file():
        return f"name its folder, {folder.parent}"
    inside = sorted(folder.glob(f"*/{RESULTS_NAME}")) if folder.is_dir() else []
    if inside:
        return f"name the folders in it, such as {inside[0].parent} ({len(inside)} hold results)"
    near = near_path(folder).removeprefix("; ")
    return near or "is it a results directory?"
