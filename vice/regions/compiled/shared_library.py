"""The C of this folder as a shared library, compiled on the machine that runs it.

A C compiler is asked for once for each kind of processor, and what it has made is kept in the
user's cache (``$XDG_CACHE_HOME/vice`` or ``~/.cache/vice``). Without one, plain PyTorch computes
the same.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import re
import shlex
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent
SOURCES = tuple(sorted(_FOLDER.glob("*.c")))
HEADERS = tuple(sorted(_FOLDER.glob("*.h")))
#: What is called of it.
FUNCTIONS = (
    "count_pixels",
    "look_up_rows",
    "represent",
    "represent_backward",
    "sum_regions",
    "sum_regions_backward",
)
#: NaN and infinity keep their meaning; sums may be taken in any order, so in lanes.
OPTIONS = (
    "-O2",
    "-ftree-vectorize",
    "-fvect-cost-model=dynamic",
    "-std=gnu11",
    "-fPIC",
    "-shared",
    "-fvisibility=default",
    "-fno-fast-math",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
)
#: For the processor at hand; a compiler that does not know it is asked without.
NATIVE = "-march=native"
#: Seconds after which a compiler is given up.
PATIENCE = 60
#: Seconds after which what nobody has asked for is removed from the cache.
UNUSED = 90 * 24 * 3600
#: Most characters of what a compiler says.
_SAID = 200


class _NoCache(Exception):
    """The user has no folder to keep a library in; says why."""


@cache
def library() -> ctypes.CDLL | None:
    """The functions of this folder's C; None, which is logged once, where nothing compiles them.

    The compiler is ``$CC`` or ``cc``; empty (``CC=``) means none.
    """
    if reason := why_not():
        logger.warning("regions are pooled by plain PyTorch, more slowly: %s", reason)
    return _found()[0]


def why_not() -> str:
    """Why there is no library, in a few words; empty if there is one."""
    return _found()[1]


@cache
def _found() -> tuple[ctypes.CDLL | None, str]:
    try:
        compiler = shlex.split(os.environ.get("CC", "cc"))
    except ValueError as error:
        return None, f"$CC cannot be read ({error})"
    if not compiler:
        return None, "$CC is empty, so there is no C compiler"
    failure = ""
    for folder in (_kept_folder, _own_folder):
        try:
            with folder() as path:
                found = _loaded(path, compiler)
            if failure:
                logger.info("pooling of regions is compiled for this process alone: %s", failure)
            return found, ""
        except subprocess.TimeoutExpired:
            return None, f"{shlex.join(compiler)} is not done after {PATIENCE:g} s"
        except _NoCache as error:
            failure = str(error)
        except FileNotFoundError as error:
            failure = f"there is no C compiler {compiler[0]}"
            if error.filename != compiler[0]:
                failure = f"{error.strerror}: {error.filename}"
        except OSError as error:
            # Full disks, file systems without programs (noexec): the next folder.
            failure = f"{shlex.join(compiler)} does not serve: {_short(str(error))}"
    return None, failure


def _loaded(folder: Path, compiler: list[str]) -> ctypes.CDLL:
    asked = "\0".join([*compiler, *OPTIONS, *platform.libc_ver(), _processor()])
    key = hashlib.sha256(asked.encode(errors="surrogateescape"))
    for source in (*SOURCES, *HEADERS):
        key.update(source.read_bytes())
    path = folder / f"regions-{key.hexdigest()[:16]}.so"
    if not _is_whole(path):
        _compile(compiler, path)
        _tidy(folder)
    with suppress(OSError):
        os.utime(path)
    return ctypes.CDLL(str(path))


def _is_whole(path: Path) -> bool:
    """Whether a library is there and ends with the digest of what comes before.

    What is cut off, or was not written to its end when power went, would end the process.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(data[:-32]).digest() == data[-32:]


def _compile(compiler: list[str], path: Path) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}-", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        _run_compiler(compiler, part)
        data = part.read_bytes()
        # Loaders read an ELF file by its header, and nothing of what comes after.
        with part.open("ab") as file:
            file.write(hashlib.sha256(data).digest())
        _try_out(part)
        # Atomic: processes that compile at the same time make the same file.
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _run_compiler(compiler: list[str], part: Path) -> None:
    failure = ""
    for native in ([NATIVE], []):
        command = [*compiler, *OPTIONS, *native, *map(str, SOURCES), "-o", str(part), "-lm"]
        # A file: a pipe would be read as long as anything that a wrapper has started holds it.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                timeout=PATIENCE,
            )
            if done.returncode == 0 and part.stat().st_size:
                return
            said.seek(0)
            text = said.read().decode(errors="replace")
        failure = failure or _telling(text) or f"status {done.returncode}"
    raise OSError(failure)


def _try_out(part: Path) -> None:
    """Loads a new library in a process of its own, which it may end.

    Raises:
        OSError: It does not load, or lacks a function.
    """
    # Embedded and frozen interpreters have another program here, or none.
    if "python" not in os.path.basename(sys.executable or "").lower():
        return
    script = (
        "import ctypes, sys; it = ctypes.CDLL(sys.argv[1]); [it[name] for name in sys.argv[2:]]"
    )
    command = [sys.executable, "-S", "-c", script, str(part), *FUNCTIONS]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").split("\n")
        said = next((line for line in reversed(lines) if line.strip()), "")
        raise OSError(f"what it makes does not load: {said or f'status {done.returncode}'}")


def _telling(text: str) -> str:
    """The line that tells most of what a compiler has said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = (line for line in lines if re.search(r"error|fatal|cannot|No space", line))
    return next(errors, lines[-1] if lines else "")


def _short(text: str) -> str:
    """One line without control characters."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= _SAID else f"{text[:_SAID]}..."


def _tidy(folder: Path) -> None:
    """Removes what older versions, and processes that were killed, have left."""
    for file in folder.glob("regions-*"):
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > (UNUSED if file.suffix == ".so" else 3600):
                file.unlink()


@contextmanager
def _kept_folder() -> Iterator[Path]:
    """The user's cache.

    Raises:
        _NoCache: There is none, or others may write to it.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise _NoCache("there is no home folder")
    base = os.path.realpath(base)
    above = Path(base)
    while not above.exists():
        above = above.parent
    # sudo: what root made in somebody's home folder would be in that one's way.
    if not _is_own(above, stat.S_IWOTH):
        raise _NoCache(f"{above} is somebody else's")
    folder = Path(base, "vice")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _NoCache(f"{error.strerror}: {folder}") from error
    if not _is_own(folder, stat.S_IWGRP | stat.S_IWOTH):
        raise _NoCache(f"others may write to {folder}")
    yield folder


def _is_own(folder: Path, bits: int) -> bool:
    """Whether a folder, and a link to it, are this user's, and who else may write there."""
    owners = {folder.stat().st_uid, folder.lstat().st_uid}
    mine = not hasattr(os, "geteuid") or owners == {os.geteuid()}
    return mine and not folder.stat().st_mode & bits


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A folder that is there until the library is loaded."""
    with tempfile.TemporaryDirectory(prefix="vice-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _processor() -> str:
    """What tells processors apart: a home folder may be shared by several kinds."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        # Heterogeneous cores: what one of them cannot do is missing in its line.
        wanted = ("flags", "Features", "model name", "CPU part", "CPU implementer")
        found = sorted({line for line in lines if line.startswith(wanted)})
        if found:
            return "\n".join(found)
    return f"{platform.processor()} of {platform.node()}"
