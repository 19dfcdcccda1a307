"""Results that those of an evaluation with other settings replace: said, and nothing is left."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.names import printable
from vice.runtime.files import disk_errors, read_json
from vice.runtime.result_folders import MAPS_NAME, result_folders
from vice.runtime.run_folder import RESULTS_NAME

logger = logging.getLogger(__name__)
#: What of a result says what was asked for.
_ASKED = (
    "kind",
    "spec",
    "protocol",
    "dataset",
    "seed",
    "arguments",
    "concepts",
    "tolerance",
    "source",
)
#: Arguments that change no number.
_ANYHOW = frozenset(
    {"arguments.out_dir", "arguments.workers", "arguments.device", "arguments.cache_bytes"}
)
#: Files that belong to a number of clusters, and those that results name which may be removed.
_OF_CLUSTERS = re.compile(r"(?:centroids|confusion|mapping)_(\d+)(?:_\w+)?\.\w+")
_OF_SOME = re.compile(
    r"counts\.json|subset\.txt|samples\.png|confusion(?:_[a-z_]+)?\.png"
    rf"|{MAPS_NAME}/(?:(?!\.\./)[^/]+/)+[^/]+\.png"
)
#: Settings that are named.
_NAMED = 3
#: Characters of a value that is shown.
_LONGEST = 80


def tell_replaced(folder: Path, result: Mapping[str, Any]) -> None:
    """Says which settings an earlier result had that is about to be replaced by another one.

    Files beside it that are not of the new result are removed: those of numbers of clusters that
    it does not have, and pictures and maps that it did not write.

    Args:
        folder: With a ``results.json``, or none.
        result: The new one, whose own files may have been written.
    """
    try:
        before = read_json(folder / RESULTS_NAME, "")
    except UserError:
        return
    now = json.loads(json.dumps(result))
    gone = _remove_others(folder, before, now)
    settings, then = _settings(now), _settings(before)
    changed = [key for key in sorted({*then, *settings}) if then.get(key) != settings.get(key)]
    if not changed:
        return
    shown = ", ".join(_change(key, then.get(key), settings.get(key)) for key in changed[:_NAMED])
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    removed = f"; {gone} of its files are removed" if gone else ""
    logger.warning(
        "%s of an earlier evaluation is replaced: %s%s%s",
        folder / RESULTS_NAME, shown, more, removed,
    )  # fmt: skip


def _change(key: str, then: Any, now: Any) -> str:
    texts = [str(value) for value in (then, now)]
    # What was found in a folder, say: the file has it whole.
    if max(map(len, texts)) > _LONGEST:
        return f"{key} is another"
    return f"{key} was {texts[0]}, is {texts[1]}"


def tell_beside(folder: Path, kinds: Collection[str], spec: str, dataset: str) -> None:
    """Says which read-outs of another model or data set stay beside those that come.

    Args:
        folder: Output folder of several read-outs.
        kinds: Names of the folders that are going to be written.
        spec: The model.
        dataset: The data set, as it was asked for.
    """
    others = []
    for place in result_folders(folder):
        if place == folder or place.relative_to(folder).parts[0] in kinds:
            continue
        try:
            result = read_json(place / RESULTS_NAME, "")
        except UserError:
            continue
        asked = result.get("arguments")
        of_data = asked.get("dataset") if isinstance(asked, Mapping) else None
        if result.get("spec") != spec or of_data not in (None, dataset):
            others.append(f"{place.relative_to(folder)} ({result.get('spec')}, {of_data})")
    if others:
        logger.warning(
            "%s: read-outs of another model or data set stay beside the new ones: %s",
            folder, printable(", ".join(others)),
        )  # fmt: skip


def _remove_others(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> int:
    """Removes what an earlier evaluation has written beside its result, and this one has not.

    Returns:
        How many files.
    """
    numbers = set(_clusters(now))
    names = {name for name in _files(before) - _files(now) if _OF_SOME.fullmatch(name)}
    matches = map(_OF_CLUSTERS.fullmatch, os.listdir(folder))
    names |= {match.string for match in matches if match and match[1] not in numbers}
    removed = 0
    for name in names:
        with disk_errors(folder / name, any_os_error=True), suppress(FileNotFoundError):
            (folder / name).unlink()
            removed += 1
    emptied = {
        place for name in names for place in (folder / name).parents if folder in place.parents
    }
    for place in sorted(emptied, reverse=True):
        # Folders in which something is left stay.
        with suppress(OSError):
            place.rmdir()
    return removed


def _files(result: Mapping[str, Any]) -> set[str]:
    """Files that a result names beside those of numbers of clusters, from its folder on."""
    subset, lists = result.get("subset"), (result.get("pictures"), result.get("maps"))
    names = [name for names in lists if isinstance(names, list) for name in names]
    names += [result.get("samples"), subset.get("file") if isinstance(subset, Mapping) else None]
    names += ["counts.json"] if _clusters(result) else []
    return {name for name in names if isinstance(name, str)}


def _clusters(result: Mapping[str, Any]) -> Mapping[str, Any]:
    clusters = result.get("clusters")
    return clusters if isinstance(clusters, Mapping) else {}


def _settings(result: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key in _ASKED:
        value = result.get(key)
        inner = (
            {f"{key}.{name}": each for name, each in value.items()}
            if isinstance(value, Mapping)
            else {key: value}
        )
        flat |= inner
    return {key: value for key, value in flat.items() if key not in _ANYHOW}
