"""Atomic writing of files: nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vice.errors import UserError, brief
from vice.paths import EMPTY
from vice.runtime.loader_faults import loader_fault
from vice.runtime.regular_file import open_regular

#: A disk or quota that is full, read-only, gone or broken, or a limit on the size of files.
#: By the system's words for it: what to do where space is not what is missing.
_REMEDIES = {
    **dict.fromkeys(map(os.strerror, (errno.EACCES, errno.EPERM, errno.EROFS)), "make it writable"),
    **dict.fromkeys(
        map(os.strerror, (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY)),
        "move away what lies in its place",
    ),
    os.strerror(errno.EFBIG): "free some space, raise the limit of a file's size (ulimit -f)",
    os.strerror(errno.ENOENT): "put its folder back",
    os.strerror(errno.EIO): "look at the disk",
    os.strerror(errno.ENAMETOOLONG): "shorten its name",
}
_DISK_ERRORS = frozenset(
    getattr(errno, name, 0)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EFBIG", "ENXIO", "ENODEV", "ESTALE")
) - {0}
_PYTORCH_WRITER = re.compile(
    r"inline_container\.cc.*(?:unexpected pos|fail)|PytorchStreamWriter failed|iostream error", re.S
)
#: Bytes; file names have at most 255, and twelve are added.
_LONGEST_PREFIX = 200
_setting_umask = threading.Lock()
_HOST = re.sub(r"\W", "-", socket.gethostname())[:40]
#: How names of `part_of` end.
_OF_PROCESS = re.compile(rf"\.{re.escape(_HOST)}-(\d+)\.part$")


def check_folder(name: str, path: str | Path) -> None:
    """Sees whether a folder is there or can be made, without making it.

    Args:
        name: What the user calls it, for the message: a key or an option.
        path: The folder.

    Raises:
        UserError: A file is in its place or above it, it may not be written, or the path is empty
            or too long for the disk.
    """
    if not str(path):
        raise UserError(f"{name}: {EMPTY}")
    folder = Path(path).absolute()
    try:
        os.path.lexists(folder) or folder.exists()
        nearest = next(above for above in (folder, *folder.parents) if os.path.lexists(above))
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
    with disk_errors(path, any_os_error=True):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path.name), suffix=".part")
        os.close(handle)
        try:
            write(name)
            _to_disk(name)
            # File mode: mkstemp makes files private; a checkpoint is as readable as any other file.
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
            _to_disk(path.parent)
        finally:
            # Temporary file: gone already if it was put in place; a disk that fails may keep it.
            with contextlib.suppress(OSError):
                os.unlink(name)


def part_of(path: Path) -> Path:
    """A name beside a file, of this process alone, for what is not whole yet.

    What a killed process has left is for `remove_dead_parts`.
    """
    return path.with_name(f"{path.name}.{_HOST}-{os.getpid()}.part")


def remove_dead_parts(folder: Path, beginning: str = "") -> None:
    """Removes from a folder what `part_of` has named for processes of this host that are gone.

    Args:
        folder: Need not be there.
        beginning: Of the names.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = _OF_PROCESS.search(entry.name)
            if found and entry.name.startswith(beginning) and not _is_alive(int(found[1])):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        # Signal 0: Windows would end the process.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def link(target: Path, aim: Path) -> None:
    """Makes a symbolic link, in place of one that is there, such as a link to nowhere.

    Raises:
        UserError: Something else is there, or the disk does not take it.
    """
    part = part_of(target)
    with disk_errors(target, any_os_error=True):
        with contextlib.suppress(OSError):
            part.unlink()
        os.symlink(aim, part, target_is_directory=aim.is_dir())
        try:
            # Rename: the link of another process, which was faster, is replaced by its like.
            os.replace(part, target)
        except OSError as error:
            part.unlink()
            raise OSError(error.errno, error.strerror, str(target)) from error


def _umask() -> int:
    """What new files of this process may not be."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
        return int(status.split("\nUmask:")[1].split()[0], 8)
    # Elsewhere it can be read by setting it alone, which no two threads may do at a time.
    with _setting_umask:
        umask = os.umask(0)
        os.umask(umask)
        return umask


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one step, as UTF-8, and makes its folder.

    Characters that stand for the bytes of a file name that is not UTF-8 become those bytes again.

    Raises:
        UserError: As `replace_atomically`.
    """
    make_folder(path.parent)
    data = text.encode("utf-8", "surrogateescape")
    replace_atomically(path, lambda new: Path(new).write_bytes(data))


def write_json(path: Path, content: Any, *, indent: int = 1, **options: Any) -> None:
    """Writes a JSON file in one step, and makes its folder.

    Args:
        path: The file.
        content: What JSON can hold.
        indent: Spaces a level.
        **options: Further options of `json.dumps`.

    Raises:
        UserError: As `replace_atomically`.
    """
    write_text(path, json.dumps(content, indent=indent, **options) + "\n")


def read_json(path: Path, remedy: str, holds: type = dict) -> Any:
    """Reads a JSON file that an earlier call left, and that somebody may have changed since.

    Args:
        path: The file.
        remedy: What to do if it cannot be read, for the message.
        holds: What it must hold, a dict or a list.

    Raises:
        UserError: It is missing, no file, not whole, or holds something else.
    """
    try:
        with open_regular(path) as file:
            content = json.load(file)
        if not isinstance(content, holds):
            raise ValueError(f"it holds no {'list' if holds is list else 'object'}")
        return content
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    # RecursionError: what is nested without end is no content of ours either.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is broken ({brief(error)}); {remedy}") from error


def append(path: Path, data: bytes) -> None:
    """Adds bytes to the end of a file, all of them or none.

    Raises:
        OSError: The disk does not take them; the file is as it was.
    """
    with path.open("ab", buffering=0) as file:
        size, rest = file.seek(0, os.SEEK_END), memoryview(data)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            # Truncation takes no space.
            with contextlib.suppress(OSError):
                file.truncate(size)
            raise


def make_folder(path: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        UserError: It cannot be made.
    """
    with disk_errors(path, any_os_error=True):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def disk_errors(path: str | Path, *, any_os_error: bool = False) -> Iterator[None]:
    """Turns what a full or failing disk raises in the block into one message.

    Memory that processes share looks like a disk, and has a message of its own.

    Args:
        path: The file or folder that is written; named where the error itself names none.
        any_os_error: Whether every error of the operating system counts.

    Raises:
        UserError: With the path, the reason and the remedy.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if fault := loader_fault(error):
            raise fault from error
        reason = disk_reason(error)
        if not reason and any_os_error and isinstance(error, OSError):
            reason = error.strerror or str(error)
        if not reason:
            raise
        named = _named_file(error) or path
        remedy = _REMEDIES.get(reason, "free some space")
        raise UserError(f"cannot write {named}: {reason}; {remedy} or choose another folder") from (
            error
        )


def disk_reason(error: BaseException) -> str:
    """Why a disk did not take what was written, in the system's words; empty for other errors.

    Libraries wrap what the system says: safetensors in an exception of its own, PyTorch in a
    RuntimeError, others with a cause or a context.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _DISK_ERRORS:
            return os.strerror(seen.errno or 0)
        match = re.search(r"\(os error (\d+)\)", str(seen))
        if match and int(match[1]) in _DISK_ERRORS:
            return os.strerror(int(match[1]))
        if isinstance(seen, RuntimeError) and _PYTORCH_WRITER.search(str(seen)):
            return "PyTorch could not write the whole file"
        seen = seen.__cause__ or seen.__context__
    return ""


def _named_file(error: BaseException) -> str:
    """The file that an error of the operating system names, without the suffix of a new one."""
    name = getattr(error, "filename", None)
    if not isinstance(name, (str, bytes)):
        return ""
    return re.sub(r"\w{8}\.part$", "", os.fsdecode(name))


def _prefix(name: str) -> str:
    """A beginning of a file name that leaves room for what is added to it."""
    while len(os.fsencode(name)) > _LONGEST_PREFIX:
        name = name[:-1]
    return name


def _to_disk(path: str | Path) -> None:
    """Waits until a file, or the names in a folder, would survive a loss of power."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        # Directory fsync: Windows opens no folders, and keeps their names without being asked.
        return
    try:
        # Directory fsync: some network file systems have none.
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
