"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vice.errors import UserError


def check_folder(name: str, path: str | Path) -> None:
    """Sees whether a folder is there or can be made, without making it.

    Args:
        name: What the user calls it, for the message: a key or an option.
        path: The folder.

    Raises:
        UserError: A file is in its place or above it, it may not be written, or the path is too
            long for the disk.
    """
    place = Path(path).absolute()
    try:
        os.path.lexists(place) or place.exists()
        nearest = next(above for above in (place, *place.parents) if os.path.lexists(above))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name}={path}: {reason}; choose another name") from error
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(
            f"{name}={path}: {nearest} is not a folder that you may write to; choose another place"
        )


def replace_atomically(path: Path, write: Callable[[str], Any]) -> None:
    """Lets ``write`` fill a new file beside ``path``, then puts it in place in one step.

    Args:
        path: The file that is to change; it is whole before and after, whenever the process or
            the machine stops.
        write: Called with the name of the new file.

    Raises:
        UserError: The folder cannot be written or the disk is full; ``path`` is as it was.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    except OSError as error:
        raise UserError(f"cannot write in {path.parent}: {error.strerror}") from error
    os.close(handle)
    try:
        write(name)
        _to_disk(name)
        # mkstemp makes files private; a checkpoint is as readable as any other file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
        _to_disk(path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error}; free some space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _to_disk(path: str | Path) -> None:
    """Waits until a file, or the names in a folder, would survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        # Some network file systems have no such thing for folders.
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
