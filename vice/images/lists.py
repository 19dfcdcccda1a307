"""Which images a folder or a list names, and what else lies there: counted, and said once."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vice.errors import UserError
from vice.images.text_lists import listed_paths
from vice.names import name_bytes
from vice.nearest import near_path
from vice.paths import from_home
from vice.runtime.own_folder import is_written

logger = logging.getLogger(__name__)

SUFFIXES = frozenset(
    {
        ".avif",
        ".bmp",
        ".gif",
        ".heic",
        ".heif",
        ".jpeg",
        ".jpg",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)
#: Files whose size is looked at: on a network disk each look takes a while.
LOOKS = 20_000
#: Files whose size enters the fingerprint of a list.
_SIZES = 64
#: Suffixes and folders that a line names; the others are counted together.
MOST_NAMED = 8
LONGEST_SUFFIX = 12
_BROKEN, _EMPTY, _NO_FILE, _MISSING = "broken links", "empty files", "not files", "missing"
_ONE = {_BROKEN: "broken link", _EMPTY: "empty file", _NO_FILE: "not a file"}


@dataclass
class Contents:
    """What was found in one place.

    Attributes:
        place: The folder, list or file.
        kind: What its files are called, for example ``"images"``.
        used: Suffix, as it is written, to the number of files that are used.
        ignored: The same of those that are not, for their suffix.
        hidden: Number of files and folders whose name starts with a dot.
        unusable: Why a used file cannot be read after all, to the number of such files.
        unreadable: Folders that cannot be listed, with the reason.
        inner: Folders inside that are not looked into.
        looked_at: How many of the used files were looked at for ``unusable``.
        notes: What a list was read as, where that is not as it stands there.
    """

    place: Path
    kind: str = "images"
    used: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    inner: list[str] = field(default_factory=list)
    looked_at: int = 0
    notes: list[str] = field(default_factory=list)

    def take(self, name: str, suffixes: Iterable[str]) -> bool:
        """Counts a file by its name, and says whether it is used."""
        if name.startswith("."):
            self.hidden += 1
            return False
        known = os.path.splitext(name)[1].lower() in suffixes
        (self.used if known else self.ignored)[_suffix(name)] += 1
        return known

    def look(self, paths: Iterable[str | Path]) -> None:
        """Counts those of the first files that are missing, broken links, empty or no files."""
        for path in paths:
            if self.looked_at >= LOOKS:
                return
            self.looked_at += 1
            reason = _unusable(path)
            if reason:
                self.unusable[reason] += 1

    def line(self) -> str:
        """All of it as one line for the user."""
        total = sum(self.used.values())
        parts = [f"{total} {self.kind}" + (f" ({_named(self.used)})" if total else "")]
        if self.ignored:
            parts.append(f"ignored: {_named(self.ignored)}")
        if self.hidden:
            parts.append(f"{self.hidden} hidden")
        if self.inner:
            parts.append(f"folders not looked into: {_some(self.inner)}")
        if self.unreadable:
            parts.append(f"folders that cannot be read: {_some(self.unreadable)}")
        if self.unusable:
            which = "them" if self.looked_at >= total else f"the first {self.looked_at}"
            said = ", ".join(_counted(number, why) for why, number in self.unusable.items())
            parts.append(f"among {which}: {said}")
        parts += self.notes
        text = " ".join(f"{self.place}: {'; '.join(parts)}".split())
        # Undecodable names must not end what writes them into a log.
        return text.encode("utf-8", "backslashreplace").decode()

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "place": str(self.place),
            "kind": self.kind,
            "files": sum(self.used.values()),
            "used": dict(self.used),
            "ignored": dict(self.ignored),
            "hidden": self.hidden,
            "unusable": dict(self.unusable),
            "unreadable_folders": self.unreadable,
            "inner_folders": self.inner,
            "looked_at": self.looked_at,
            **({"notes": self.notes} if self.notes else {}),
        }


def list_images(path: str | Path, root: str | Path | None = None) -> list[Path]:
    """Lists the images of a folder, or those named in a text file.

    Args:
        path: A folder, searched with all its subfolders (links are followed, hidden names are
            left out) for the known suffixes in any case, in sorted order; or a text file with
            one path a line, in its own order; or one image file.
        root: Where the relative paths of a text file start; default the folder it lies in.

    Returns:
        The paths, at least one.

    Raises:
        UserError: The path is missing, holds no image, or a list names no file that exists.
    """
    return _survey(from_home(path), root)[0]


def fingerprint_list(paths: Sequence[Path]) -> str:
    """What tells one set of images from another, wherever it lies: how many, and a digest.

    The digest is over the names below the folder that all share, in order, and over the sizes of
    some of the files: cameras give the same names again.

    Args:
        paths: At least one.

    Returns:
        For example ``"12 images (3f0c9a5d1b7e)"``.
    """
    folder = os.path.commonpath([path.parent for path in paths])
    digest = hashlib.sha256()
    for path in paths:
        digest.update(name_bytes(os.path.relpath(path, folder)) + b"\n")
    for number in np.unique(np.linspace(0, len(paths) - 1, _SIZES).astype(int)):
        with suppress(OSError):
            digest.update(b"%d " % os.stat(paths[number]).st_size)
    return f"{len(paths)} images ({digest.hexdigest()[:12]})"


def survey(path: str | Path, root: str | Path | None = None) -> Contents:
    """What `list_images` finds and leaves out, with a look at the files themselves.

    Args:
        path: As in `list_images`.
        root: As in `list_images`.

    Returns:
        The counts.

    Raises:
        UserError: As `list_images`; or every single file is missing, empty or a broken link.
    """
    paths, contents = _survey(Path(path), root)
    contents.look(paths)
    if sum(contents.unusable.values()) == len(paths):
        why = ", ".join(_counted(number, reason) for reason, number in contents.unusable.items())
        raise UserError(f"{path}: none of its {len(paths)} images can be read: {why}; copy them")
    return contents


def announce(contents: Contents) -> None:
    """Says what was found in a place; the same words only once in a process."""
    text = contents.line()
    if text not in _said:
        _said.add(text)
        logger.info("%s", text)


_said: set[str] = set()


def _survey(path: Path, root: str | Path | None) -> tuple[list[Path], Contents]:
    contents = Contents(path)
    if os.path.isdir(path):
        return _list_folder(path, contents), contents
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such folder or image list{near_path(path, 'check the path')}")
    if path.suffix.lower() in SUFFIXES:
        contents.take(path.name, SUFFIXES)
        return [path], contents
    paths = _read_list(path, Path(root) if root is not None else path.parent, contents)
    # Suffix filter: a list means what it names, whatever its suffix.
    contents.used = Counter(_suffix(entry.name) for entry in paths)
    return paths, contents


def _list_folder(folder: Path, contents: Contents) -> list[Path]:
    paths = sorted(_walk(folder, contents))
    if not paths:
        known = " ".join(sorted(SUFFIXES))
        there = contents.line().removeprefix(f"{folder}: 0 images").lstrip("; ")
        raise UserError(
            f"{folder}: no images in this folder or below; save those of another format as .jpg or "
            f".png; known suffixes: {known}" + (f" ({there})" if there else "")
        )
    return paths


def _walk(folder: Path, contents: Contents) -> list[Path]:
    def failed(error: OSError) -> None:
        contents.unreadable.append(f"{error.filename} ({error.strerror})")

    paths: list[Path] = []
    seen: set[str] = set()
    for current, folders, names in os.walk(folder, followlinks=True, onerror=failed):
        real = os.path.realpath(current)
        if real in seen:  # a link back to a folder above would never end
            folders.clear()
            continue
        seen.add(real)
        if Path(current) != folder and is_written([*folders, *names]):
            contents.inner.append(f"{Path(current).relative_to(folder)} (written by ViCE)")
            folders.clear()
            continue
        contents.hidden += sum(name.startswith(".") for name in folders)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(current, name) for name in names if contents.take(name, SUFFIXES)]
    return paths


def _read_list(path: Path, root: Path, contents: Contents) -> list[Path]:
    paths, notes = listed_paths(path, root, SUFFIXES)
    contents.notes += notes
    # Early exit at the first that exists: a list of 100,000 on a network disk is not checked whole.
    if not any(os.path.exists(entry) for entry in paths):
        raise UserError(
            f"{path}: none of its {len(paths)} images exists (the first is {paths[0]}); "
            "relative paths start at the list's folder, or at `root` where that is given"
            + near_path(paths[0])
        )
    return paths


def _counted(number: int, reason: str) -> str:
    return f"{number} {_ONE.get(reason, reason) if number == 1 else reason}"


def _unusable(path: str | Path) -> str:
    """Why a file cannot hold an image; empty where it may."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a name may hold what no disk takes
        return _BROKEN if os.path.islink(path) else _MISSING
    if not stat.S_ISREG(status.st_mode):
        return _NO_FILE
    return "" if status.st_size else _EMPTY


def _suffix(name: str) -> str:
    """The suffix of a name as a line shows it."""
    suffix = os.path.splitext(name)[1]
    if len(suffix) > LONGEST_SUFFIX or not suffix.isprintable():
        return "odd suffix"
    return suffix or "without suffix"


def _named(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{suffix} {number}" for suffix, number in ordered[:MOST_NAMED])
    others = sum(number for _, number in ordered[MOST_NAMED:])
    return named + (f", others {others}" if others else "")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
