"""On which images the rows of a table were scored, and whether on the same."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from vice.evaluation.content_checksums import content_of
from vice.experiments.reproduce.outcome import Outcome
from vice.runtime.files import read_json
from vice.runtime.run_folder import RESULTS_NAME

logger = logging.getLogger(__name__)
_SHOWN = 8
_PARTS = ("splits", "images", "list_checksums")


def scored_images(outcome: Outcome) -> list[str]:
    """Notes for a table: of each data set the splits, how many images, and their lists.

    Rows of one data set and protocol that were scored on other images, or fitted to others, as
    after its folder has changed, are told of in the log, too: they cannot be compared. What a
    fraction of the labels is fitted to is told, and differs by design.

    Args:
        outcome: What has come of the table.
    """
    shown: dict[str, dict[str, None]] = {}
    held: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row, scored in outcome.rows.items():
        for folder in scored.results:
            file = folder / RESULTS_NAME
            result = read_json(file, "delete it to evaluate again") if file.is_file() else {}
            data = result.get("dataset")
            if not isinstance(data, Mapping):
                continue
            shown.setdefault(_text(data), {})[row] = None
            protocol = result.get("protocol")
            how = str(protocol.get("hash")) if isinstance(protocol, Mapping) else ""
            way = (str(data.get("name")), str(result.get("kind")), how)
            arguments = result.get("arguments")
            few = isinstance(arguments, Mapping) and arguments.get("fraction")
            for role in ("score",) if few else ("score", "fit"):
                held.setdefault((role, *way), []).append(_images(result, data, role))
    lines = [
        f"- images: {text}{': ' + ', '.join(map(repr, rows)) if len(shown) > 1 else ''}"
        for text, rows in shown.items()
    ]
    for name in dict.fromkeys(name for (_, name, *_), of in held.items() if _differ(of)):
        said = (
            f"rows are of different images or labels of {name}, and not comparable with one "
            "another: delete the results of some to evaluate again"
        )
        lines.append(f"- **{said}**")
        if said not in outcome.warnings:
            outcome.warnings.append(said)
            logger.warning("%s", said)
    return lines


def _text(data: Mapping[str, Any]) -> str:
    splits, images, lists = (_mapping(data.get(part)) for part in _PARTS)
    name, fit = data.get("name"), data.get("fit_name", data.get("name"))
    other = f" of {fit}" if fit != name else ""
    said = [
        f"{verb} {splits[role]}{of} ({images.get(role, '?')} images, list "
        f"{str(lists.get(role, '?'))[:_SHOWN]})"
        for role, verb, of in (("fit", "fitted on", other), ("score", "scored on", ""))
        if splits.get(role)
    ]
    return ", ".join([str(name), *said])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _images(result: Mapping[str, Any], data: Mapping[str, Any], role: str) -> dict[str, str]:
    """What the images of a role are told by; older results do not say what they held."""
    said = {part: str(_mapping(data.get(part)).get(role)) for part in _PARTS}
    said["name"] = str(data.get("fit_name")) if role == "fit" else ""
    content = content_of(result).items()
    return said | {name: value for name, value in content if name.endswith(f"({role})")}


def _differ(found: Sequence[Mapping[str, str]]) -> bool:
    """Whether two of them say something else of the same."""
    names = {name for each in found for name in each}
    return any(len({each[name] for each in found if name in each}) > 1 for name in names)
