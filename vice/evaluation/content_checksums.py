"""What images and labels held that a result is of: only of the same may scores be compared."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vice.runtime.files import disk_errors

if TYPE_CHECKING:
    from vice.images.survey import Survey

#: Entries of a result's ``content``, and what they are called for people.
_NAMES = {"pixels": "pixels of images", "label_files": "label files"}
_SHOWN = 12
_UNKNOWN = "{}"
logger = logging.getLogger(__name__)


def checksums(found: Survey, labels: Sequence[Path]) -> dict[str, str]:
    """What tells images and labels from others with the same names.

    Args:
        found: All the images.
        labels: Files of their labels, in the same order; none where no labels are used.

    Returns:
        For a result: ``pixels``, over the images as they are read, and ``label_files``, over the
        bytes of the files.

    Raises:
        UserError: A file cannot be read.
    """
    # PyTorch takes seconds to import, and comparing results does without.
    from vice.runtime.provenance import digest_files

    said = {"pixels": found.checksum()}
    if labels:
        with disk_errors("labels", any_os_error=True):
            said["label_files"] = digest_files(labels)
    return said


def content_of(result: Mapping[str, Any]) -> dict[str, str]:
    """The checksums of a result, flat: what of which role to its value; empty in older results."""
    content = result.get("content")
    if not isinstance(content, Mapping):
        return {}
    return {
        f"{name} ({role})": str(of[entry])[:_SHOWN]
        for role, of in content.items()
        if isinstance(of, Mapping)
        for entry, name in _NAMES.items()
        if entry in of
    }


def by_settings(
    settled: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> list[tuple[dict[str, Any], list[Mapping[str, Any]]]]:
    """Groups results by how they were taken, and by what their images and labels held.

    Results of earlier versions do not say what those held. They stay with the others of their
    settings where these agree, which is told, and else are a group of their own.

    Args:
        settled: Settings and result of each.

    Returns:
        Settings, with `content_of`, and results of each group, in the order of the first result.
    """
    keys = [json.dumps(settings, sort_keys=True) for settings, _ in settled]
    contents = [json.dumps(content_of(result), sort_keys=True) for _, result in settled]
    known: dict[str, set[str]] = {}
    for key, content in zip(keys, contents, strict=True):
        known.setdefault(key, set()).update({content} - {_UNKNOWN})
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    older = 0
    for key, content, (_, result) in zip(keys, contents, settled, strict=True):
        if content == _UNKNOWN and len(known[key]) == 1:
            (content,) = known[key]
            older += 1
        groups.setdefault((key, content), []).append(result)
    if older:
        logger.warning(
            "%d results are of an earlier version and do not say what their images and labels "
            "held: they are taken for those of the others",
            older,
        )
    return [
        ({**json.loads(key), **json.loads(content)}, members)
        for (key, content), members in groups.items()
    ]
