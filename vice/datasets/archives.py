"""Files out of the official archives, zip or tar: those of one folder, whole or not at all."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from vice.errors import UserError, brief
from vice.runtime.files import disk_errors, make_folder, part_of, remove_dead_parts
from vice.runtime.progress import progress

_TAR_SUFFIXES = (".tar", ".tgz", ".gz", ".xz", ".bz2")
_CORRUPT = (
    zipfile.BadZipFile,
    zlib.error,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    EOFError,
)


@dataclass(frozen=True)
class Extract:
    """Which files of an archive are wanted, and where they go.

    Attributes:
        archive: The archive.
        inside: Their folder in it.
        ending: How their names end.
        target: The folder they go to; what lies there in the same size is kept.
    """

    archive: Path
    inside: str
    ending: str
    target: Path

    def path(self, name: str) -> Path | None:
        """Where a member goes; None for one that is not wanted.

        Raises:
            UserError: It would go somewhere else than into the folder.
        """
        name = name.removeprefix("./")
        if not name.startswith(f"{self.inside}/") or not name.endswith(self.ending):
            return None
        below = PurePosixPath(name[len(self.inside) + 1 :])
        if below.is_absolute() or ".." in below.parts:
            raise UserError(
                f"{self.archive} holds {name}, which would be written outside of {self.target}: "
                "it is not the official archive"
            )
        return self.target / below


def unpack(wanted: Extract, threads: int) -> None:
    """Writes the wanted files of an archive that are not in place yet.

    Args:
        wanted: Which files, and where to.
        threads: How many files of a zip are written at a time.

    Raises:
        UserError: The archive is corrupt, or the disk cannot be written.
    """
    is_tar = wanted.archive.name.endswith(_TAR_SUFFIXES)
    remove_dead_parts(wanted.target)
    try:
        (_unpack_tar if is_tar else _unpack_zip)(wanted, threads)
    except _CORRUPT as error:
        raise UserError(
            f"{wanted.archive} is corrupt ({brief(error)}); download it again"
        ) from error


def in_threads(
    work: Callable[..., object], items: Sequence[object], label: str, threads: int
) -> list[object]:
    """Results of ``work`` for each item, in order, with progress in the log."""
    if not items:
        return []
    pool = ThreadPoolExecutor(threads)
    try:
        return list(progress(pool.map(work, items), len(items), label))
    finally:
        # Cancellation: who stops this waits for files that are being written, not for all others.
        pool.shutdown(cancel_futures=True)


def _unpack_zip(wanted: Extract, threads: int) -> None:
    with zipfile.ZipFile(wanted.archive) as opened:
        members = [(item, wanted.path(item.filename)) for item in opened.infolist()]
    missing = [(i, file) for i, file in members if file and not _is_there(file, i.file_size)]
    local = threading.local()

    def write(member: tuple[zipfile.ZipInfo, Path]) -> None:
        # File handles: each thread has its own; reading through one would take turns.
        if not hasattr(local, "archive"):
            local.archive = zipfile.ZipFile(wanted.archive)
        item, file = member
        with local.archive.open(item) as reader:
            write_member(reader, file)

    in_threads(write, missing, _label(wanted), threads)


def _unpack_tar(wanted: Extract, threads: int) -> None:
    with tarfile.open(wanted.archive) as opened:
        # Order: a compressed tar can only be read from its beginning to its end.
        for reader, file in progress(_missing(opened, wanted), None, _label(wanted)):
            write_member(reader, file)


def _missing(opened: tarfile.TarFile, wanted: Extract) -> Iterator[tuple[IO[bytes], Path]]:
    for item in opened:
        file = wanted.path(item.name) if item.isfile() else None
        if file and not _is_there(file, item.size):
            reader = opened.extractfile(item)
            assert reader is not None  # Regular file: it has content.
            with reader:
                yield reader, file


def _label(wanted: Extract) -> str:
    return f"unpacking {wanted.archive.name} to {wanted.target.name}"


def _is_there(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def write_member(reader: IO[bytes], file: Path) -> None:
    """Writes a member of an archive, whole or not at all.

    Args:
        reader: Its content.
        file: Where it goes.

    Raises:
        UserError: The disk cannot be written.
    """
    make_folder(file.parent)
    partial = part_of(file)
    with disk_errors(file):
        try:
            with partial.open("wb") as writer:
                shutil.copyfileobj(reader, writer)
            os.replace(partial, file)
        finally:
            with suppress(OSError):
                partial.unlink()
