"""Regular files: opening what somebody else may have made."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from vice.errors import UserError

#: Named pipes are not waited for, and terminals not taken over.
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY"))


def open_regular(path: str | Path) -> BinaryIO:
    """Opens a file to be read in binary, and nothing but a file; links to files are followed.

    What is read is read through what this returns: a name may mean another file a moment later.

    Raises:
        UserError: It is a pipe, a device or a socket.
        OSError: It cannot be opened, or is a folder.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _FLAGS))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UserError(f"{path} is no regular file; give a file on a disk")
    return file
