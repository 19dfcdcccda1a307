"""``classes.txt``: one class name a line, in the order of the label indices, and nothing else."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from vice.errors import UserError
from vice.images.text_lists import decode_text
from vice.labels import IGNORE

logger = logging.getLogger(__name__)

MAX_CLASSES = 255
_REMEDY = "leave one class name a line, in the order of the label indices, and nothing else"
#: Words that head a column. A line of one word must be one of the first.
_HEADS = {"class", "classes", "label", "labels", "name", "names", "id", "index"}
_HEADS |= {"category", "categories"}
_MORE_HEADS = _HEADS | {"b", "blue", "color", "colour", "color_name", "g", "green", "hex", "r"}
_MORE_HEADS |= {"red", "rgb", "idx", "no", "nr", "num", "number", "of", "pixel", "pixels", "value"}
_MORE_HEADS |= {"supercategory", "trainid", "train_id", "class_id", "class_name", "classname"}
_MORE_HEADS |= {"label_id", "labelid", "label_name", "category_id", "category_name"}
_INTEGER = re.compile(r"(?<![\w.])\d+(?![\w.])")
_HEX_COLOR = re.compile(r"#[0-9a-f]{6}\b|\b0x[0-9a-f]{6}\b", re.I)
_SEPARATED = re.compile(r"[,;|\t]")
#: What ends a line for some programs only, and characters that nobody sees.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029\u200b-\u200f\u00ad"
    r"\u202a-\u202e\u2060-\u206f\ufeff]"
)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Reads class names in index order.

    Where every line starts with a number, that is the index, and the line of 255 names what is
    ignored. A comment, a heading or a further column would give classes other names than their
    own, so such files are refused.

    Args:
        path: The file, in UTF-8, or in UTF-16 with a byte order mark.

    Returns:
        The names.

    Raises:
        UserError: It is empty, not UTF-8, or holds anything but names; names the line.
    """
    try:
        # As of `Path.read_text`: any line end is a line feed.
        text = re.sub(r"\r\n?", "\n", decode_text(path.read_bytes()))
    except UnicodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error
    unseen = _UNSEEN.search(text)
    if unseen:
        number = text.count("\n", 0, unseen.start()) + 1
        raise UserError(f"{path}: line {number} holds a character that is not shown; {_REMEDY}")
    names = [line.strip() for line in text.rstrip().splitlines()]
    if not names:
        raise UserError(f"{path}: empty; write one class name a line")
    if "" in names:
        raise UserError(f"{path}: line {names.index('') + 1} is empty; name every class")
    _check_lines(names, path)
    names = _strip_indices(names, path)
    _check_columns(names, path)
    _check_unique(names, path)
    if len(names) > MAX_CLASSES:
        raise UserError(f"{path}: {len(names)} classes; an 8-bit label map has room for 255")
    return tuple(names)


def _check_lines(lines: Sequence[str], path: Path) -> None:
    """Refuses what a single line, or the first, gives away."""
    for number, line in enumerate(lines, 1):
        what = _no_name(line)
        if what:
            raise UserError(f"{path}: line {number} {what}: {line[:60]!r}; {_REMEDY}")
    if _is_heading(lines):
        raise UserError(f"{path}: line 1 is a heading and no class: {lines[0][:60]!r}; {_REMEDY}")
    if len(lines) == 1 and len(_SEPARATED.split(lines[0])) > 1:
        raise UserError(f"{path}: holds several names in one line; write each in a line of its own")


def _no_name(line: str) -> str:
    """What a line is instead of a class name; empty for a name."""
    if re.match(r"#|//|%|;|<|--", line) or re.search(r"\s(#|//)", line):
        return "holds a comment or markup"
    if re.match(r"[-*+]\s", line) or line[0] in "[{]}\"'" or line[-1] in "[{]}\"',:":
        return "is part of a list, JSON or YAML"
    if re.match(r"\d+\s*[:.)]|(id|name|class|label|color)\s*:", line) or re.search(
        r"=|:\s*[\d\[(]", line
    ):
        return "holds a key beside the name"
    if _HEX_COLOR.search(line):
        return "holds a color"
    if not any(character.isalnum() for character in line):
        return "holds no name"
    return ""


def _is_heading(lines: Sequence[str]) -> bool:
    first, *others = lines
    words = [word for word in re.split(r"[\s,;|:/()]+", first.casefold()) if word]
    if len(words) == 1:
        if words[0] in _HEADS:
            return True
    elif words and _MORE_HEADS.issuperset(words):
        return True
    if not others or (first.split()[0].isdigit() and len(first.split()) > 1):
        return False
    if first.isdigit() and not any(line.split()[0].isdigit() for line in others):
        return True  # the number of classes
    # Header line: a title over numbered lines.
    numbers = [line.split()[0] for line in others]
    named = all(len(line.split()) > 1 for line in others)
    if (len(others) < 2 and numbers != ["0"]) or not named or not all(map(str.isdecimal, numbers)):
        return False
    indices = sorted(int(n) for n in numbers if int(n) != IGNORE)
    return bool(indices) and indices == list(range(indices[0], indices[0] + len(indices)))


@cache
def _say_numbered(path: Path) -> None:
    """Memoization: a process that opens a data set several times says it once."""
    logger.info("%s: the numbers in front of the names are their indices", path)


def _strip_indices(names: list[str], path: Path) -> list[str]:
    parts = [name.split(maxsplit=1) for name in names]
    if not all(len(part) == 2 and part[0].isdecimal() for part in parts):
        return names
    numbered = {int(index): name for index, name in parts if int(index) != IGNORE}
    kept = sum(int(index) != IGNORE for index, _ in parts)
    if sorted(numbered) != list(range(len(numbered))) or kept > len(numbered) or not numbered:
        raise UserError(
            f"{path}: the numbers in front of the names are not 0, 1, 2, ...: correct or remove "
            "them"
        )
    _say_numbered(path)
    return [numbered[index] for index in range(len(numbered))]


def _check_columns(names: Sequence[str], path: Path) -> None:
    """Refuses further columns: numbers, colors, and separators that all lines have alike."""
    for name in names:
        cells = [cell.strip() for cell in _SEPARATED.split(name)]
        numbers = _INTEGER.findall(name)
        if "\t" in name or len(numbers) > 1 or (len(cells) > 1 and numbers):
            raise UserError(f"{path}: more than one column: {name[:60]!r}; {_REMEDY}")
    separators = {len(_SEPARATED.findall(name)) for name in names}
    if len(names) > 1 and separators != {0} and len(separators) == 1:
        raise UserError(f"{path}: columns in every line: {names[0][:60]!r}; {_REMEDY}")
    _check_trailing(names, path)


def _check_trailing(names: Sequence[str], path: Path) -> None:
    """Refuses a number behind every name that is neither part of it nor its index."""
    matches = [re.fullmatch(r"(.*\S)\s+(\d+)", name) for name in names]
    if len(names) < 2 or not all(matches):
        return
    numbered = [(match[1], int(match[2])) for match in matches if match]
    alike = len({name for name, _ in numbered}) < len(numbered)
    if not alike and [number for _, number in numbered] != list(range(len(numbered))):
        raise UserError(
            f"{path}: a number behind every name, which is not its index: {names[0][:60]!r}; "
            f"{_REMEDY}"
        )


def _check_unique(names: Sequence[str], path: Path) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path}: class {twice[0]!r} stands there twice; names must be unique")
    seen: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[\s_-]+", " ", name).strip().casefold()
        if plain in seen:
            raise UserError(
                f"{path}: classes {seen[plain]!r} and {name!r} are one name written in two ways; "
                "names must be unique"
            )
        seen[plain] = name
