"""Lists of files as people and programs write them: encodings of Unicode, CSV, backslashes."""

from __future__ import annotations

import codecs
import csv
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vice.errors import UserError

#: Suffixes of lists whose lines have cells.
_TABLES = (".csv", ".tsv")
#: Byte order marks; that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: What a column of images is called, where there are several of paths.
_OF_IMAGES = ("image", "img", "photo", "file", "path", "rgb", "input")
_OF_LABELS = ("mask", "label", "annot", "seg", "gt", "target")


def decode_text(data: bytes, errors: str = "strict") -> str:
    """Text in UTF-8, or in UTF-16 or UTF-32 by its byte order mark, without the mark.

    Args:
        data: The bytes of a file.
        errors: What becomes of bytes that are no UTF-8, as of `bytes.decode`.

    Raises:
        UnicodeError: It is no such text.
    """
    code = next((code for mark, code in _MARKS if data.startswith(mark)), None)
    return data.decode(code) if code else data.decode("utf-8-sig", errors)


def read_text(path: Path) -> str:
    """Text of a list of files, see `decode_text`.

    Returns:
        The text; bytes that are no UTF-8 as surrogates, since names are bytes.

    Raises:
        UserError: It cannot be read, or is no text.
    """
    try:
        text = decode_text(path.read_bytes(), "surrogateescape")
    except (OSError, UnicodeError) as error:
        raise UserError(f"{path}: cannot be read as a list ({error}); save it as UTF-8") from error
    if "\0" in text:  # in no path, and in almost every file that is no text
        raise UserError(
            f"{path}: neither a folder, an image nor a text file (UTF-8, or UTF-16 with a byte "
            "order mark) with one path a line"
        )
    return text


def is_table(path: Path) -> bool:
    """Whether the lines of a list have cells, by its suffix."""
    return path.suffix.lower() in _TABLES


def list_rows(path: Path) -> list[list[str]]:
    """Lines of a list that are not empty, in cells: of CSV and TSV theirs, of others one a line.

    Raises:
        UserError: It cannot be read, or is no text.
    """
    text = read_text(path)
    # Only a line feed ends a line: a name may hold every other character that `str.splitlines`
    # splits at.
    lines = [
        line.removesuffix("\r")
        for line in text.split("\n" if "\n" in text else "\r")
        if line.strip()
    ]
    if not is_table(path):
        return [[line] for line in lines]
    mark = next((mark for mark in "\t;," if all(mark in line for line in lines)), ",")
    try:
        rows = list(csv.reader(lines, delimiter=mark, skipinitialspace=True))
    except csv.Error as error:
        raise UserError(f"{path}: is no table of {mark!r} ({error})") from error
    return [[cell.strip() for cell in row] for row in rows]


def choose_column(
    rows: Sequence[Sequence[str]], fits: Callable[[str], bool]
) -> tuple[list[str], str]:
    """The column of a table that names files, without its heading.

    Args:
        rows: As of `list_rows`.
        fits: Whether a cell names a file.

    Returns:
        Its cells, and what the column is called for people; none where no cell fits.
    """
    width = max(map(len, rows), default=0)
    if width < 2:
        return [cell for row in rows for cell in row if fits(cell)], ""
    counts = Counter(n for row in rows[1:] or rows for n, cell in enumerate(row) if fits(cell))
    if not counts:
        return [], ""
    head = list(rows[0]) + [""] * (width - len(rows[0]))
    most = max(counts.values())
    # Several columns of paths: that of the images, else the first.
    place = min(
        (n for n, count in counts.items() if count == most), key=lambda n: (_rank(head[n]), n)
    )
    cells = [row[place] for row in rows if place < len(row)]
    headed = not fits(cells[0]) and is_heading(cells[0])
    name = repr(head[place]) if headed else f"number {place + 1}"
    return [cell for cell in cells[headed:] if cell], f"column {name}"


def is_heading(cell: str) -> bool:
    """Whether a cell that names no file may be what its column is called."""
    return not any(letter.isdigit() or letter in "/\\." for letter in cell)


def _rank(head: str) -> int:
    text = head.lower()
    if any(word in text for word in _OF_LABELS):
        return 2
    return 0 if any(word in text for word in _OF_IMAGES) else 1


def listed_paths(path: Path, root: Path, suffixes: Iterable[str]) -> tuple[list[Path], list[str]]:
    """The paths that a list names, and what had to be read into it.

    Args:
        path: The list.
        root: Where relative paths start.
        suffixes: Endings of images in lower case, which tell the column of a table.

    Returns:
        The paths, in order, whether they exist or not; and a line for each thing that was read
        otherwise than it stands there, with its count.

    Raises:
        UserError: The list cannot be read, is empty, or is a table without a column of images.
    """
    rows, notes = list_rows(path), []
    if is_table(path):
        ends = tuple(suffixes)
        names, column = choose_column(rows, lambda cell: cell.lower().endswith(ends))
        if rows and not names:
            raise UserError(f"{path}: no column holds names of images, which end in .jpg or so")
        if column:
            notes.append(f"{column} of the table is read")
    else:
        names = [row[0] for row in rows]
    if not names:
        raise UserError(f"{path}: the image list is empty; write one image path a line")
    found = [_entry(root, name) for name in names]
    if turned := sum("\\" in name and "\\" not in str(entry)
                     for name, entry in zip(names, found, strict=True)):  # fmt: skip
        notes.append(f"{turned} paths with backslashes are read with slashes")
    return found, notes


def _entry(root: Path, line: str) -> Path:
    """The path on a line; spaces around it belong to it only if there is such a file."""
    name = line.strip()
    if name != line and os.path.exists(root / line):
        return root / line
    # Plain names are not looked up: a list of 100,000 on a network disk is not checked whole.
    if "\\" not in name and name.isascii():
        return root / name
    return next(
        (root / each for each in _spellings(name) if os.path.exists(root / each)), root / name
    )


def _spellings(name: str) -> list[str]:
    """A name as it stands, with slashes, and with accents stored as other systems store them."""
    slashed = [name, name.replace("\\", "/")]
    return slashed + [
        unicodedata.normalize(form, each) for form in ("NFC", "NFD") for each in slashed[::-1]
    ]
