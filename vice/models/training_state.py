"""Training states on disk: written whole or not at all, checked, and found again.

A state is a PyTorch file of tensors and plain containers. Such a file is a zip archive, which
carries a CRC-32 of every record, so it says itself whether it is whole. Files that a method needs
beside it stand in it with their checksums.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vice.errors import OptionError, UserError, brief
from vice.models.foreign import refusal
from vice.models.tensor_archive import IsProgram, TensorArchive
from vice.runtime.files import replace_atomically
from vice.runtime.provenance import digest_file
from vice.runtime.regular_file import open_regular
from vice.runtime.run_folder import STATE_SUFFIX

logger = logging.getLogger(__name__)

#: Names of VISSL: of every state, of those that belong to an epoch's end, of that of the last
#: epoch, and of the link to the state to resume from.
SUFFIX = STATE_SUFFIX
PATTERN = f"model_*{SUFFIX}"
_EPOCH = re.compile(r"model_(?:final_checkpoint_)?phase(\d+)\.torch")
_FINAL = f"model_final_checkpoint_phase*{SUFFIX}"
LINK_NAME = f"checkpoint{SUFFIX}"
#: States inside an epoch; older ones are removed as newer ones come.
_INSIDE = re.compile(r"model_iteration(\d+)\.torch")


def name_inside(iteration: int) -> str:
    """Name of a state inside an epoch."""
    return f"model_iteration{iteration}{SUFFIX}"


def name_of_epoch(epoch: int, *, final: bool) -> str:
    """Name of the state at an epoch's end.

    Args:
        epoch: From 0, as VISSL counts.
        final: Whether it is the last one.
    """
    return f"model_{'final_checkpoint_' if final else ''}phase{epoch}{SUFFIX}"


def states_of_epochs(folder: Path) -> list[tuple[int, Path]]:
    """Epochs, from 1, with the states at their ends, in order."""
    matches = ((_EPOCH.fullmatch(file.name), file) for file in folder.glob(PATTERN))
    return sorted((int(match[1]) + 1, file) for match, file in matches if match)


def final_state(folder: Path) -> Path | None:
    """The state at the end of a training; None where it has not ended."""
    return next(iter(sorted(folder.glob(_FINAL))), None)


def write_snapshot(path: Path, state: dict[str, Any]) -> None:
    """Writes a state atomically.

    Args:
        path: The file; what is there before is replaced in one step.
        state: Tensors and plain containers, with an ``"iteration"``.

    Raises:
        UserError: The disk is full or the folder cannot be written; what was there still is.
    """
    replace_atomically(path, lambda new: torch.save(state, new))


@dataclass(frozen=True)
class Furthest:
    """The states of a run folder.

    Attributes:
        path: The furthest one that is whole; None where none is.
        damaged: Those that would be further and are not whole, with what is wrong with each.
    """

    path: Path | None
    damaged: dict[Path, str]


def damage(path: Path) -> str:
    """What is wrong with a state on disk; empty when every record has its checksum."""
    try:
        with open_regular(path) as file:
            TensorArchive(file).check()
    except (OSError, ValueError, UserError) as error:
        return f"not a whole archive ({brief(error)})"
    return ""


def read_snapshot(path: Path, *, numbers: bool = True) -> dict[str, Any]:
    """Reads a state without running code from it.

    Args:
        path: The file.
        numbers: False gives tensors without memory, on the device ``meta``.

    Raises:
        UserError: Not a state of a training.
    """
    try:
        with open_regular(path) as file:
            state = TensorArchive(file).read(strict=True, numbers=numbers)
    except IsProgram as error:
        raise UserError(refusal(path, error)) from error
    # Catch-all: broken bytes raise almost any exception in what they are taken for.
    except Exception as error:
        raise UserError(f"{path} holds more than tensors, or less: {brief(error)}") from error
    if not isinstance(state, dict) or type(state.get("iteration")) is not int:
        raise UserError(f"{path} is not the state of a training")
    return state


def missing_files(path: Path) -> str:
    """What a training that goes on from a state would miss; empty when nothing."""
    names = read_snapshot(path, numbers=False).get("vice", {}).get("files", {})
    for name, digest in names.items():
        try:
            changed = digest_file(path.parent / name) != digest
        except (OSError, UserError) as error:
            return f"{name}, which belongs to it, cannot be read ({brief(error)})"
        if changed:
            return f"{name}, which belongs to it, is of another state"
    return ""


def furthest_snapshot(folder: Path, *, finished: bool = True, to_resume: bool = False) -> Furthest:
    """Looks for the furthest state of a run that is whole; nothing is changed.

    The state says itself how far it is. Times and names of files do not matter: a copied folder
    has others. Of equally far ones the first by name is taken.

    Args:
        folder: The run folder.
        finished: Whether the state of a finished training counts.
        to_resume: Whether the files count that training needs beside the state.
    """
    candidates: list[tuple[tuple[int, int], Path]] = []
    damaged: dict[Path, str] = {}
    for path in sorted(folder.glob(PATTERN)):
        if finished or "final" not in path.name:
            try:
                candidates.append((_position(path), path))
            except UserError as error:
                damaged[path] = str(error)
    for _, path in sorted(candidates, key=lambda item: item[0], reverse=True):
        reason = damage(path) or (missing_files(path) if to_resume else "")
        if not reason:
            return Furthest(path, damaged)
        damaged[path] = reason
    return Furthest(None, damaged)


def _position(path: Path) -> tuple[int, int]:
    state = read_snapshot(path, numbers=False)
    phase = state.get("phase_idx", -1)
    # Tie: an epoch's last step and its end have one iteration; the end is further.
    return state["iteration"], phase if type(phase) is int else -1


def newest_snapshot(folder: Path, *, finished: bool = True) -> Path | None:
    """The furthest state of a run that is whole, to go on from.

    Damaged files are renamed to ``NAME.broken``, with a warning each.

    Args:
        folder: The run folder.
        finished: Whether the state of a finished training counts.

    Returns:
        None when there never was one.

    Raises:
        UserError: There are states, and none of them is whole.
    """
    furthest = furthest_snapshot(folder, finished=finished, to_resume=True)
    for path, reason in furthest.damaged.items():
        _set_aside(path, reason)
    if furthest.path is None and furthest.damaged:
        names = ", ".join(path.name for path in furthest.damaged)
        raise OptionError(
            "no checkpoint in {path} is whole ({names}, now *.broken): start anew with the same "
            "command, or in another folder with {newest_snapshot.folder}=...",
            path=folder,
            names=names,
        )
    return furthest.path


def _set_aside(path: Path, reason: str) -> None:
    logger.warning("%s is damaged and set aside as %s.broken: %s", path, path.name, reason)
    try:
        path.replace(path.with_name(f"{path.name}.broken"))
    except FileNotFoundError:
        logger.info("another node has set %s aside", path.name)


def link_newest(folder: Path, target: Path | None) -> None:
    """Lets ``checkpoint.torch`` point to a state in one step; None removes the link.

    VISSL makes this link once and never moves it.
    """
    link = folder / LINK_NAME
    if target is None:
        link.unlink(missing_ok=True)
        return
    new = folder / f"{LINK_NAME}.{os.getpid()}.part"
    new.unlink(missing_ok=True)
    new.symlink_to(target.name)
    new.replace(link)


def remove_old(folder: Path, keep: int) -> None:
    """Removes all but the newest ``keep`` states inside epochs."""
    matches = ((_INSIDE.fullmatch(path.name), path) for path in folder.iterdir())
    inside = [(int(match[1]), path) for match, path in matches if match]
    for _, path in sorted(inside, reverse=True)[keep:]:
        path.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Removes what killed processes left half written; only for the folder's one writer."""
    for path in folder.glob("*.part"):
        path.unlink(missing_ok=True)
