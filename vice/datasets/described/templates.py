"""Templates of paths with ``{stem}``: which files fit one, and what their stems are."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection
from functools import cache
from pathlib import Path

from vice.datasets.split_files import OF_SYSTEMS
from vice.errors import UserError
from vice.images import SUFFIXES
from vice.runtime.own_folder import is_written

#: What images and labels have in common, and the folders above it where other folders lie between.
STEM, FOLDER = "{stem}", "{folder}"
ANY_SUFFIX = ".*"
PLACES = re.compile(r"\{(?:stem|folder)\}")


def walk(folder: Path, left_out: list[str] | None = None) -> list[str]:
    """Files below a folder, as paths below it with ``/``, sorted; hidden ones are left out.

    Args:
        folder: The folder.
        left_out: Gets the folders in it that ViCE has written, which are not looked into: masks of
            a model are no labels.

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
        if below != "." and is_written([*folders, *names]):
            folders.clear()
            if left_out is not None:
                left_out.append(below.replace(os.sep, "/"))
            continue
        prefix = "" if below == "." else f"{below.replace(os.sep, '/')}/"
        files += [prefix + name for name in names if not name.startswith(".")]
    return sorted(files)


def composed(name: str) -> str:
    """A name with its accents stored in one way (NFC): systems store the same name differently."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def stored_path(root: Path, name: str) -> Path:
    """The path of a file or folder whose name `composed` may have changed.

    Args:
        root: A folder.
        name: Below it, with ``/``.
    """
    path = root / name
    if name.isascii() or os.path.lexists(path):
        return path
    for part in name.split("/"):
        try:
            there = os.listdir(root)
        except OSError:
            return path
        root /= next((each for each in sorted(there) if composed(each) == composed(part)), part)
    return root


def base(template: str) -> str:
    """The folder that all files of a template lie below; empty for that of the description."""
    return PLACES.split(template)[0].rpartition("/")[0]


def stem_of(template: str, path: str) -> str | None:
    """The stem of a path that fits a template; None of one that does not.

    Args:
        template: ``images/{stem}.*`` and the like.
        path: Below the folder that the template starts from, with ``/``.

    Example:
        >>> from vice.datasets.described.templates import stem_of
        >>> stem_of("labels/{stem}_mask.png", "labels/a/7_mask.png")
        'a/7'
        >>> stem_of("{folder}/masks/{stem}.png", "scene 1/masks/7.png")
        'scene 1/7'
        >>> stem_of("images/{stem}.*", "images/notes.txt") is None
        True
    """
    match = _pattern(composed(template)).fullmatch(composed(path))
    if match is None:
        return None
    return "/".join(match.groupdict().values())


@cache
def _pattern(template: str) -> re.Pattern[str]:
    before, _, after = template.partition(STEM)
    above, folder, between = before.partition(FOLDER)
    # In a file's name, not over folders: "mask_{stem}.png" means the name, wherever it lies.
    if after.endswith(ANY_SUFFIX):
        known = "|".join(re.escape(suffix) for suffix in SUFFIXES)
        end = f"{re.escape(after.removesuffix(ANY_SUFFIX))}(?i:{known})"
    else:
        end = re.escape(after)
    start = re.escape(above) + ("(?P<folder>.+)" if folder else "") + re.escape(between)
    return re.compile(f"{start}(?P<stem>.+){end}", re.DOTALL)


def find_files(template: str, root: Path, apart: Collection[Path] = frozenset()) -> dict[str, Path]:
    """Files that fit a template, by stem, sorted.

    Args:
        template: See `stem_of`.
        root: Where it starts.
        apart: Files that are something else.

    Raises:
        UserError: No such folder, or two files of one stem.
    """
    folder = stored_path(root, base(template))
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
