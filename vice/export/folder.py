"""The folder of an export: what an earlier one wrote there, and how a new one takes its place."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.names import printable
from vice.runtime.files import disk_errors, make_folder, read_json, replace_atomically
from vice.runtime.own_folder import keep_others
from vice.runtime.run_folder import EXPORT_RECORD_NAME

logger = logging.getLogger(__name__)
#: Format to the files that it may have.
FILES = {
    "onnx": ("embed.onnx", "segment.onnx"),
    "torchscript": ("model.torchscript",),
    "torchvision": ("trunk.safetensors",),
    "timm": ("trunk.safetensors",),
    "mmseg": ("trunk.pth",),
}


def earlier_files(folder: Path, to: str) -> list[str] | None:
    """What an earlier export to a format wrote into a folder.

    Args:
        folder: The output folder, which need not be there.
        to: A key of ``FILES``.

    Returns:
        Names of its files that are there; None where there was no export.

    Raises:
        UserError: The folder holds an export to another format, or what is none.
    """
    record = _record(folder)
    if record is None:
        keep_others(folder, (EXPORT_RECORD_NAME, *FILES[to]), ours=False)
        return None
    found = _format(record)
    if found != to:
        raise UserError(
            f"{printable(str(folder))} holds an export to another format ({found}), of which "
            f"{EXPORT_RECORD_NAME} speaks: choose another output folder"
        )
    # The first exports did not name them.
    written = record.get("files", FILES[to])
    # Names: a record that somebody has changed must not lead out of the folder.
    return [name for name in FILES[to] if name in written and os.path.lexists(folder / name)]


def put(
    folder: Path, to: str, files: Mapping[str, Callable[[str], Any]], record: Mapping[str, Any]
) -> list[str]:
    """Writes an export in the place of an earlier one to the same format.

    Every file is written under another name before the first takes its place, so that a disk that
    is full changes nothing. What the earlier export has and this one has not is removed.

    Args:
        folder: Made if missing.
        to: A key of ``FILES``.
        files: Name to what fills the file of that name, called with the name of a new file.
        record: What ``export.json`` says besides the format and the names of the files.

    Returns:
        Names of all files that were written.

    Raises:
        UserError: As `earlier_files`, or the folder cannot be written.
    """
    earlier = earlier_files(folder, to) or []
    keep_others(folder, [name for name in files if name not in earlier], ours=False)
    make_folder(folder)
    gone = [name for name in earlier if name not in files]
    text = json.dumps({**record, "format": to, "files": list(files)}, indent=1) + "\n"

    def write_record(new: str) -> None:
        Path(new).write_text(text, encoding="utf-8")
        _replace_together(folder, list(files.items()))
        # Before the record: where this stops, the old one still names what is there.
        for name in gone:
            with disk_errors(folder / name, any_os_error=True), suppress(FileNotFoundError):
                (folder / name).unlink()

    replace_atomically(folder / EXPORT_RECORD_NAME, write_record)
    if gone:
        logger.warning("removed from an earlier export in %s: %s", folder, ", ".join(gone))
    return [*files, EXPORT_RECORD_NAME]


def _replace_together(folder: Path, files: Sequence[tuple[str, Callable[[str], Any]]]) -> None:
    """Puts files in place once all of them are written."""
    if not files:
        return
    (name, write), *rest = files

    def write_all(new: str) -> None:
        write(new)
        _replace_together(folder, rest)

    replace_atomically(folder / name, write_all)


def _record(folder: Path) -> dict[str, Any] | None:
    """What ``export.json`` says; None where there is none of ours."""
    try:
        record: dict[str, Any] = read_json(folder / EXPORT_RECORD_NAME, "")
    except UserError:
        return None
    return record if "digest" in record else None


def _format(record: Mapping[str, Any]) -> str:
    """The format that a record names; the first ones named that of a trunk by its network."""
    return str(record.get("format") or library_of(str(record.get("network_there", "unknown"))))


def library_of(call: str) -> str:
    """The library of the Python that makes a network, which is the format of its trunk."""
    return call.partition(".")[0]
