"""Weight files of others: one file, a Hugging Face folder, or shards with their index."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.model_specs import FOLDER_NAMES, other_form
from vice.models.foreign import read_tensors
from vice.nearest import near_path

logger = logging.getLogger(__name__)
_INDEX = ".index.json"
_SHARD = re.compile(r"-\d{3,}-of-\d{3,}\.(safetensors|bin|pth?)$")


def holds_weights(path: str | Path) -> bool:
    """Whether this is a file, or a folder as Hugging Face's libraries write it."""
    return os.path.isfile(path) or _inside(path) is not None


def read_weights(path: str | Path) -> Any:
    """Reads a file or folder of weights as data.

    Args:
        path: Written by `torch.save`, ``.safetensors``, an index of shards, or a folder with one of
            `FOLDER_NAMES`.

    Returns:
        Nested containers with tensors; nothing in the file is run.

    Raises:
        UserError: Missing, not whole, or shards and their index do not agree.
    """
    file = Path(path)
    if not os.path.isfile(file):
        weights_file = _inside(file)
        if weights_file is None:
            raise UserError(
                f"{file} does not exist{other_form(str(path)) or near_path(file)}"
                if not os.path.exists(file)
                else f"{file} is a folder without weights: none of {', '.join(FOLDER_NAMES)} in it"
            )
        file = weights_file
    if file.name.endswith(_INDEX):
        return _read_shards(file)
    if _SHARD.search(file.name):
        raise UserError(
            f"{file} is one of several shards: give their folder, with the {_INDEX[1:]} in it"
        )
    return read_tensors(file)


def _inside(folder: str | Path) -> Path | None:
    if not os.path.isdir(folder):
        return None
    files = [Path(folder) / name for name in FOLDER_NAMES if os.path.isfile(Path(folder) / name)]
    if len(files) > 1:
        logger.info("%s: reading %s, not %s", folder, files[0].name, files[1].name)
    return files[0] if files else None


def _read_shards(index: Path) -> dict[str, Any]:
    names = _weight_map(index)
    tensors: dict[str, Any] = {}
    for shard in sorted(set(names.values())):
        file = index.parent / shard
        if not os.path.isfile(file):
            raise UserError(f"{index}: its shard {shard} is missing; copy all of the folder")
        content = read_tensors(file)
        wanted = [name for name, home in names.items() if home == shard]
        lacking = [n for n in wanted if not isinstance(content, dict) or n not in content]
        if lacking:
            raise UserError(
                f"{file} lacks {len(lacking)} weights that {index.name} says it holds, for example "
                f"{lacking[0]}: shards and index are not of one model; copy all of the folder again"
            )
        stray = sorted(set(content) - set(wanted))
        if stray:
            raise UserError(
                f"{file} holds {len(stray)} weights that {index.name} does not say it does, for "
                f"example {stray[0]}: shards and index are not of one model; copy all of the "
                "folder again"
            )
        tensors.update({name: content[name] for name in wanted})
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise UserError(f"{index} is no index of shards ({error}); copy it again") from error
    if not isinstance(names, dict) or not names:
        raise UserError(f"{index} is no index of shards: its weight_map is empty; copy it again")
    for shard in names.values():
        # Path traversal: a shard lies beside its index; anything else is somebody else's file.
        if not isinstance(shard, str) or os.path.basename(shard) != shard or shard in ("", ".."):
            raise UserError(f"{index}: {shard!r} is no name of a file beside it; copy it again")
    return names
