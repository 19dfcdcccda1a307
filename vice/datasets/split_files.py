"""The files of one split: found by stem, matched with their partners, and counted."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vice.errors import UserError
from vice.images import SUFFIXES
from vice.images.lists import Contents
from vice.nearest import did_you_mean

MOST_NAMED = 5
#: What helps where labels are not as a labelled folder has them.
DESCRIBE = "let vice prepare folder describe the set"
#: Folders that systems and file servers put beside images.
OF_SYSTEMS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN"})


@dataclass(frozen=True)
class Folder:
    """A folder of one split.

    Attributes:
        path: Where it is.
        suffixes: Endings of its files in lower case.
        kind: What they are, for messages.
    """

    path: Path
    suffixes: Collection[str]
    kind: str


def scan(folder: Folder) -> tuple[list[Path], Contents]:
    """Files of a folder, sorted, and the count of what else lies there.

    Raises:
        UserError: The folder cannot be read.
    """
    contents, files = Contents(folder.path, folder.kind), []
    try:
        entries = sorted(os.scandir(folder.path), key=lambda entry: entry.name)
        for entry in entries:
            if entry.is_dir() and not entry.name.startswith("."):
                contents.inner.append(entry.name)
            elif contents.take(entry.name, folder.suffixes):
                files.append(Path(entry.path))
    except OSError as error:
        raise UserError(f"{folder.path}: cannot be read ({error.strerror})") from error
    return files, contents


def count(folders: Iterable[Folder]) -> list[Contents]:
    """What lies in each of those folders that are there, with a look at the files themselves."""
    counted = []
    for folder in folders:
        if folder.path.is_dir():
            files, contents = scan(folder)
            contents.look(files)
            counted.append(contents)
    return counted


def by_stem(
    folder: Path, suffixes: Collection[str], known: Collection[str] = (), kind: str = "images"
) -> dict[str, Path]:
    """Files of a folder by stem, sorted.

    Args:
        folder: Where to look; hidden files are left out.
        suffixes: Endings in lower case.
        known: What splits there are, for the message.
        kind: What the files are.

    Raises:
        UserError: No such folder, no such file, images in folders below, or two files of one stem.
    """
    if not folder.is_dir():
        # Of the splits that have labels here those that have such files, too.
        near = did_you_mean(folder.name, [e for e in known if folder.with_name(e).is_dir()])
        raise UserError(
            f"{folder}: no such folder{near}; splits with labels here: "
            f"{', '.join(known) or 'none'}" + nearby_names(folder)
        )
    paths, contents = scan(Folder(folder, suffixes, kind))
    if kind == "images" or not paths:
        _check_inner(folder, contents.inner, suffixes, kind)
    files: dict[str, Path] = {}
    for path in paths:
        if path.stem in files:
            raise UserError(
                f"{path} and {files[path.stem]} share one stem: remove or rename one of them"
            )
        files[path.stem] = path
    if not files:
        there = contents.line().removeprefix(f"{folder}: 0 {kind}").lstrip("; ")
        raise UserError(
            f"{folder}: no files ending in {', '.join(sorted(suffixes))}"
            + (f" ({there})" if there else "")
            + (f"; {DESCRIBE}" if kind != "images" and _pictures(contents) else "")
        )
    return files


def _pictures(contents: Contents) -> bool:
    """Whether files of a suffix that images have are left out."""
    return any(suffix in SUFFIXES for suffix in contents.ignored)


def _check_inner(folder: Path, inner: Sequence[str], suffixes: Collection[str], kind: str) -> None:
    """Refuses files in folders below, which would be left out without a word."""
    for name in inner:
        if name in OF_SYSTEMS:
            continue
        for current, folders, names in os.walk(folder / name):
            folders[:] = [below for below in folders if not below.startswith(".")]
            below = [
                file
                for file in names
                if not file.startswith(".") and os.path.splitext(file)[1].lower() in suffixes
            ]
            if below:
                raise UserError(
                    f"{folder}: {kind} lie in folders below, such as "
                    f"{os.path.join(current, min(below))}, and only files right in the split's "
                    "folder are read: move them up (with the names of their folders in theirs, "
                    f"where names repeat), or elsewhere, or {DESCRIBE}"
                )


def check_partners(
    files: Iterable[str] | Mapping[str, Path],
    partners: Iterable[str] | Mapping[str, Path],
    folder: Path,
    kind: str,
) -> None:
    """Sees to it that every file has a partner.

    Args:
        files: Stems, or files by stem.
        partners: Stems, or files by stem.
        folder: Where the partners should be, for the message.
        kind: What they are, for the message.

    Raises:
        UserError: Names the first files without a partner of the same stem, and what may be meant
            to be that partner.
    """
    stems = sorted(set(files) - set(partners))
    if stems:
        lonely = [files[stem].name for stem in stems] if isinstance(files, Mapping) else stems
        free = set(partners) - set(files)
        hint = _meant(stems[0], free) or _other_suffix(stems[0], folder)
        remedy = hint or f"; add it, take these away, or {DESCRIBE}"
        raise UserError(f"{folder}: no {kind} for {name_some(lonely)}{remedy}")


def nearby_names(path: Path) -> str:
    """What lies where a file or folder is missed, for the end of a message."""
    above = next((parent for parent in path.parents if parent.is_dir()), None)
    try:
        names = sorted(name for name in os.listdir(above or ".") if not name.startswith("."))
    except OSError:
        return ""
    return f" ({above} holds {name_some(names) or 'nothing'})"


def _meant(stem: str, others: Collection[str]) -> str:
    """A hint at a file whose name nearly fits."""
    plain = _plain(stem)
    close = [other for other in others if _plain(other) == plain]
    if close:
        return f" ({min(close)} differs in letter case or in how accents are stored: rename it)"
    longer = [other for other in others if stem in other or other in stem]
    if longer:
        meant = min(longer, key=len)
        return f" (if {meant} is meant: give both the same name but for the suffix)"
    return ""


def _plain(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _other_suffix(stem: str, folder: Path) -> str:
    """A hint at a file of the right stem that is not read."""
    try:
        names = sorted(name for name in os.listdir(folder) if os.path.splitext(name)[0] == stem)
    except OSError:
        return ""
    if not names:
        return ""
    if os.path.isdir(folder / names[0]):
        return f" ({names[0]} is a folder)"
    more = f", or {DESCRIBE}" if os.path.splitext(names[0])[1].lower() in SUFFIXES else ""
    return (
        f" ({names[0]} lies there, but files of its suffix are not read: convert it to PNG{more})"
    )


def name_some(names: Sequence[object]) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(str(name) for name in names[:MOST_NAMED]) + more
