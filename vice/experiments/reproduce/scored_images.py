"""On which images the rows of a table were scored, and whether on the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from vice.evaluation.content_checksums import content_of
from vice.experiments.reproduce.outcome import Outcome
from vice.runtime.files import read_json
from vice.runtime.run_folder import RESULTS_NAME

logger = logging.getLogger(__name__)
_SHOWN = 8


def scored_images(outcome: Outcome) -> list[str]:
    """Notes for a table: of each data set the splits, how many images, and their lists.

    Rows of one data set that were scored on other images, as after its folder has changed, are
    told of in the log, too: they cannot be compared.

    Args:
        outcome: What has come of the table.
    """
    found: dict[str, dict[str, _Images]] = {}
    for row, scored in outcome.rows.items():
        for folder in scored.results:
            file = folder / RESULTS_NAME
            result = read_json(file, "delete it to evaluate again") if file.is_file() else {}
            data = result.get("dataset")
            if isinstance(data, Mapping):
                images = _Images(result, data)
                there = found.setdefault(images.name, {}).setdefault(images.key, images)
                there.rows[row] = None
    lines = []
    for name, versions in found.items():
        lines += [f"- images: {each.text}{each.of_rows() if len(versions) > 1 else ''}"
                  for each in versions.values()]  # fmt: skip
        if len(versions) > 1:
            said = (
                f"rows are scored on {len(versions)} different sets of images or labels of {name}, "
                "and not comparable with one another: delete the results of some to evaluate again"
            )
            lines.append(f"- **{said}**")
            logger.warning("%s", said)
    return lines


class _Images:
    """What a result was fitted to and scored on.

    Args:
        result: Content of a ``results.json``.
        data: Its data set.
    """

    def __init__(self, result: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        parts = [data.get(part) or {} for part in ("splits", "images", "list_checksums")]
        splits, images, lists = parts
        fit, self.name = data.get("fit_name", data.get("name")), str(data.get("name"))
        self.rows: dict[str, None] = {}
        self.key = json.dumps([fit, parts, content_of(result)], sort_keys=True)
        other = f" of {fit}" if fit != self.name else ""
        shown = [
            f"{verb} {splits[role]}{of} ({images.get(role, '?')} images, list "
            f"{str(lists.get(role, '?'))[:_SHOWN]})"
            for role, verb, of in (("fit", "fitted on", other), ("score", "scored on", ""))
            if splits.get(role)
        ]
        self.text = ", ".join([self.name, *shown])

    def of_rows(self) -> str:
        """Whose they are."""
        return f": {', '.join(map(repr, self.rows))}"
