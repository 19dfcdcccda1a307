"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vice.errors import UserError


def replace_atomically(path: Path, write: Callable[[str], Any]) -> None:
    """Lets ``write`` fill a new file beside ``path``, then puts it in place in one step.

    Args:
        path: The file that is to change; it is whole before and after, whenever the process ends.
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
        # mkstemp makes files private; a checkpoint is as readable as any other file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error}; free some space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
