"""Templates of paths with ``{stem}``: which files fit one, and what their stems are."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from vice.datasets.split_files import OF_SYSTEMS
from vice.errors import UserError
from vice.images import SUFFIXES

STEM, ANY_SUFFIX = "{stem}", ".*"


def walk(folder: Path) -> list[str]:
    """Files below a folder, as paths below it with ``/``, sorted; hidden ones are left out.

    Raises:
        UserError: A folder cannot be read.
    """

    def failed(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error

    # Links: back to a folder above, or to one that was seen, they would never end.
    above = os.path.realpath(folder)
    files, seen = [], {str(parent) for parent in Path(above).parents}
    for current, folders, names in os.walk(folder, followlinks=True, onerror=failed):
        real = os.path.realpath(current)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in OF_SYSTEMS
        )
        below = os.path.relpath(current, folder)
        prefix = "" if below == "." else f"{below.replace(os.sep, '/')}/"
        files += [prefix + name for name in names if not name.startswith(".")]
    return sorted(files)


def base(template: str) -> str:
    """The folder that all files of a template lie below; empty for that of the description."""
    return template.partition(STEM)[0].rpartition("/")[0]


def stem_of(template: str, path: str) -> str | None:
    """The stem of a path that fits a template; None of one that does not.

    Args:
        template: ``images/{stem}.*`` and the like.
        path: Below the folder that the template starts from, with ``/``.

    Example:
        >>> from vice.datasets.described.templates import stem_of
        >>> stem_of("labels/{stem}_mask.png", "labels/a/7_mask.png")
        'a/7'
        >>> stem_of("images/{stem}.*", "images/notes.txt") is None
        True
    """
    match = _pattern(template).fullmatch(path)
    return match["stem"] if match else None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    before, _, after = template.partition(STEM)
    # In a file's name, not over folders: "mask_{stem}.png" means the name, wherever it lies.
    if after.endswith(ANY_SUFFIX):
        known = "|".join(re.escape(suffix) for suffix in SUFFIXES)
        end = f"{re.escape(after.removesuffix(ANY_SUFFIX))}(?i:{known})"
    else:
        end = re.escape(after)
    return re.compile(f"{re.escape(before)}(?P<stem>.+){end}", re.DOTALL)


def find_files(template: str, root: Path, apart: Collection[Path] = frozenset()) -> dict[str, Path]:
    """Files that fit a template, by stem, sorted.

    Args:
        template: See `stem_of`.
        root: Where it starts.
        apart: Files that are something else.

    Raises:
        UserError: No such folder, or two files of one stem.
    """
    folder = root / base(template)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, and dataset.yaml says {template}")
    prefix = f"{base(template)}/" if base(template) else ""
    files: dict[str, Path] = {}
    for name in walk(folder):
        stem = stem_of(template, prefix + name)
        if stem is None or folder / name in apart:
            continue
        if stem in files:
            raise UserError(
                f"{folder / name} and {files[stem]} share one stem: remove or rename one of them"
            )
        files[stem] = folder / name
    return files


def listed_stems(path: Path, known: Iterable[str]) -> list[str]:
    """Stems that a list names, one a line: as they are, with a suffix, or with folders before.

    Raises:
        UserError: It cannot be read, or a line names none of the known.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    stems = set(known)
    by_name = {stem.rpartition("/")[2]: stem for stem in stems}
    unique = len(by_name) == len(stems)
    found = []
    for line in lines:
        text = line.split("\t")[0].strip() if "\t" in line else line.strip()
        if not text:
            continue
        text = text.split()[0] if text not in stems and " " in text else text
        stem = _listed(text, stems, by_name if unique else {})
        if stem is None:
            raise UserError(f"{path}: names {text}, of which there is no image")
        found.append(stem)
    return sorted(set(found))


def names_some(path: Path, known: Iterable[str]) -> bool:
    """Whether a file has a line that names one of the known stems."""
    stems = set(known)
    by_name = {stem.rpartition("/")[2]: stem for stem in stems}
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError:
        return False
    return any(_listed(line.strip(), stems, by_name) for line in lines if line.strip())


def _listed(text: str, stems: set[str], by_name: dict[str, str]) -> str | None:
    bare = text[: -len(Path(text).suffix)] if Path(text).suffix.lower() in SUFFIXES else text
    for candidate in (text, bare):
        if candidate in stems:
            return candidate
    name = bare.rpartition("/")[2]
    return by_name.get(text.rpartition("/")[2]) or by_name.get(name)
