"""Results that those of an evaluation with other settings replace: said, and nothing is left."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.runtime.files import disk_errors, read_json
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
#: Files that belong to a number of clusters.
_OF_CLUSTERS = re.compile(r"(?:centroids|confusion|mapping)_(\d+)(?:_\w+)?\.\w+")
#: Settings that are named.
_NAMED = 3


def tell_replaced(folder: Path, result: Mapping[str, Any]) -> None:
    """Says which settings an earlier result had that is about to be replaced by another one.

    Files of numbers of clusters that the new result does not have are removed.

    Args:
        folder: With a ``results.json``, or none.
        result: The new one.
    """
    try:
        before = read_json(folder / RESULTS_NAME, "")
    except UserError:
        return
    then, now = (_settings(each) for each in (before, json.loads(json.dumps(result))))
    changed = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    if not changed:
        return
    shown = ", ".join(f"{key} was {then.get(key)}, is {now.get(key)}" for key in changed[:_NAMED])
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    logger.warning(
        "%s of an earlier evaluation is replaced: %s%s", folder / RESULTS_NAME, shown, more
    )
    if "clusters" in result and isinstance(result["clusters"], Mapping):
        kept = set(map(str, result["clusters"]))
        for file in folder.iterdir():
            match = _OF_CLUSTERS.fullmatch(file.name)
            if match and match[1] not in kept:
                with disk_errors(file, any_os_error=True), suppress(FileNotFoundError):
                    file.unlink()


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
