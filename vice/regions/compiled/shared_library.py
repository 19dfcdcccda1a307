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
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("regions.c")
#: NaN and infinity keep their meaning; sums may be taken in any order, so in lanes.
OPTIONS = (
    "-O3",
    "-std=gnu11",
    "-fPIC",
    "-shared",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
)
#: For the processor at hand; a compiler that does not know it is asked without.
NATIVE = "-march=native"
#: Seconds after which a compiler is given up.
PATIENCE = 60


@cache
def library() -> ctypes.CDLL | None:
    """The functions of ``regions.c``; None, which is logged once, where nothing compiles them.

    The compiler is ``$CC`` or ``cc``; empty (``CC=``) means none.
    """
    try:
        compiler = shlex.split(os.environ.get("CC", "cc"))
        if not compiler:
            raise OSError("CC is empty")
        return _loaded(compiler)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        logger.info("regions are pooled by plain PyTorch, more slowly: no C compiler (%s)", error)
        return None


def _loaded(compiler: list[str]) -> ctypes.CDLL:
    text = SOURCE.read_bytes()
    asked = "\0".join([*compiler, *OPTIONS, platform.machine(), _processor()])
    name = f"regions-{hashlib.sha256(text + asked.encode()).hexdigest()[:16]}.so"
    failure = OSError("no folder to compile in")
    for folder in _folders():
        path = folder / name
        try:
            if not path.is_file():
                _compile(compiler, path)
            return ctypes.CDLL(str(path))
        except OSError as error:
            # Damaged files, full disks, file systems without programs (noexec): the next folder.
            failure = error
            with suppress(OSError):
                path.unlink()
    raise failure


def _compile(compiler: list[str], path: Path) -> None:
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}-", suffix=".part")
    os.close(handle)
    try:
        failure = ""
        for native in ([NATIVE], []):
            command = [*compiler, *OPTIONS, *native, str(SOURCE), "-o", part, "-lm"]
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE,
            )
            if done.returncode == 0:
                # Atomic: processes that compile at the same time make the same file.
                os.replace(part, path)
                return
            failure = next(iter(done.stderr.strip().splitlines()), f"status {done.returncode}")
        raise OSError(f"{shlex.join(compiler)}: {failure}")
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)


def _folders() -> Iterator[Path]:
    """Where nobody else may write: the user's cache, and a folder for this process alone."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    folder = Path(base, "vice")
    with suppress(OSError):
        if os.path.isabs(base):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = folder.stat()
            others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if found.st_uid == os.geteuid() and not others:
                yield folder
    with suppress(OSError):
        yield Path(_temporary().name)


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vice-")


def _processor() -> str:
    """What tells processors apart: a home folder may be shared by several kinds."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        # Heterogeneous cores: what one of them cannot do is missing in its line.
        wanted = ("flags", "Features", "model name", "CPU part", "CPU implementer")
        return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    return platform.processor()
