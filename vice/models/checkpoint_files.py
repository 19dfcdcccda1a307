"""Which file of a run folder is its checkpoint, and what its card says."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.model_specs import refuse_folder, refuse_missing
from vice.models.own_files import read_metadata, reads_as_safetensors
from vice.models.training_state import SUFFIX, furthest_snapshot
from vice.runtime.run_folder import ARCHITECTURE_NAME, WEIGHTS_NAME

logger = logging.getLogger(__name__)


def find_checkpoint(path: str | Path) -> Path:
    """The file that `load_checkpoint` reads.

    Raises:
        UserError: There is none.
    """
    path = Path(path)
    # Path length: os.path has an answer for names too long for the disk, too; Path raises.
    if not os.path.exists(path):
        refuse_missing(path)
    if path.is_file():
        return path
    weights_file = path / WEIGHTS_NAME
    if weights_file.is_file():
        return weights_file
    return _furthest(path)


def _furthest(folder: Path) -> Path:
    """The state that training would go on from, in a run folder without exported weights."""
    furthest = furthest_snapshot(folder)
    if furthest.path is not None:
        if furthest.damaged:
            names = ", ".join(path.name for path in furthest.damaged)
            logger.warning("%s: taking %s, since damaged: %s", folder, furthest.path.name, names)
        return furthest.path
    if furthest.damaged:
        path, reason = next(iter(furthest.damaged.items()))
        raise UserError(f"{folder}: no state in it is whole, for example {path.name}: {reason}")
    refuse_folder(folder)


def read_card(path: str | Path) -> dict[str, Any]:
    """The card of a checkpoint, without its weights; empty where only loading them says why.

    Raises:
        UserError: There is no checkpoint.
    """
    file = find_checkpoint(path)
    try:
        if reads_as_safetensors(file):
            card = json.loads(read_metadata(file)["vice"])
        else:
            card = json.loads((file.parent / ARCHITECTURE_NAME).read_text())
    except (OSError, KeyError, ValueError, RecursionError):
        return {}
    return card if isinstance(card, dict) and isinstance(card.get("meta", {}), dict) else {}


def holds_run(folder: str | Path) -> bool:
    """Whether a folder is that of a run, with weights of any of its epochs."""
    return (Path(folder) / WEIGHTS_NAME).is_file() or any(Path(folder).glob(f"*{SUFFIX}"))
