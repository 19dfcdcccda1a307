"""Lists of the stems of a split: text or tables, with or without suffixes and folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from vice.datasets.described.templates import composed
from vice.errors import UserError
from vice.images import SUFFIXES
from vice.images.text_lists import choose_column, is_heading, is_table, list_rows

#: Suffixes of files that may be lists.
LIST_SUFFIXES = (".txt", ".lst", ".csv", ".tsv")


def names_of(root: Path, files: Iterable[Mapping[str, Path]]) -> dict[str, str]:
    """What lists may call a stem: itself, or the path of its image or labels without the suffix.

    Args:
        root: The folder of the data set.
        files: Images by stem, labels by stem.
    """
    paths = {
        composed(file.relative_to(root).with_suffix("").as_posix()): stem
        for each in files
        for stem, file in each.items()
        if file.is_relative_to(root)
    }
    return paths | {stem: stem for each in files for stem in each}


def listed_stems(path: Path, known: Mapping[str, str]) -> list[str]:
    """Stems that a list names, one a line: as they are, with a suffix, or with folders before.

    Args:
        path: The list.
        known: Stems by what they may be called, see `names_of`.

    Raises:
        UserError: It cannot be read, names nothing, or a line names none or several of the known.
    """
    found = _look_up(path, known)
    if not found:
        raise UserError(f"{path}: names no image")
    for line, stems in found.items():
        if not stems:
            raise UserError(f"{path}: names {line}, of which there is no image")
        if len(stems) > 1:
            raise UserError(
                f"{path}: names {line}, which may be {stems[0]} or {stems[1]}: write the folder"
            )
    return sorted({stem for stems in found.values() for stem in stems})


def names_some(path: Path, known: Mapping[str, str]) -> bool:
    """Whether a file has a line that names one of the known stems."""
    try:
        return any(_look_up(path, known).values())
    except UserError:
        return False


def _look_up(path: Path, known: Mapping[str, str]) -> dict[str, list[str]]:
    """The lines of a list, and the known stems that each may name."""
    by_name: dict[str, set[str]] = defaultdict(set)
    for name, stem in known.items():
        by_name[name.rpartition("/")[2]].add(stem)

    def named(line: str) -> list[str]:
        found = (_named(text, known, by_name) for text in _readings(line))
        return next(filter(None, found), [])

    rows = list_rows(path)
    lines = [row[0] for row in rows]
    if any(len(row) > 1 for row in rows):
        lines, _ = choose_column(rows, lambda cell: bool(named(cell)))
    elif is_table(path) and len(lines) > 1 and not named(lines[0]) and is_heading(lines[0]):
        lines = lines[1:]
    return {line.strip(): named(line) for line in lines}


def _readings(line: str) -> list[str]:
    """What a line may name: all of it, or what stands before a tab, comma or space."""
    text = composed(line.strip()).replace("\\", "/").removeprefix("./")
    parts = [text.split(mark)[0].strip() for mark in ("\t", ",", ";", " ")]
    return [text, *dict.fromkeys(part for part in parts if part and part != text)]


def _named(text: str, known: Mapping[str, str], by_name: Mapping[str, set[str]]) -> list[str]:
    bare = text[: -len(Path(text).suffix)] if Path(text).suffix.lower() in SUFFIXES else text
    parts = bare.split("/")
    # Folders before: those that the template has, or those of another machine.
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    found = next((known[end] for end in (text, *ends) if end in known), None)
    # Names that repeat in folders tell nothing by themselves.
    return sorted(by_name.get(parts[-1], ())) if found is None else [found]
