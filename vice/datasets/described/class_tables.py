"""Tables of classes that people keep beside their labels: names, values and colors."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vice.datasets.described.stored_values import pack
from vice.errors import UserError
from vice.images.text_lists import decode_text

#: What such files are called, without their suffix and in lower case.
_NAMES = ("classes", "class_dict", "class_names", "classnames", "labels", "label_colors",
          "labels_colors", "label_colours", "labelmap", "label_map", "colormap", "color_map",
          "colors", "categories", "objectinfo150")  # fmt: skip
_SUFFIXES = (".txt", ".csv", ".tsv", ".json")
_HEX = re.compile(r"(?:#|0x)?([0-9a-fA-F]{6})")
_WHOLE = re.compile(r"\d+(?:\.0+)?")
#: What columns are called.
_OF_NAMES = frozenset({"name", "names", "class", "classes", "label", "labels", "class name",
                       "class_name", "classname", "category", "categories", "title"})  # fmt: skip
_OF_VALUES = frozenset({"id", "value", "index", "idx", "label_id", "labelid", "class_id", "pixel",
                        "class_index", "number"})  # fmt: skip
_OF_COLORS = ({"r", "red"}, {"g", "green"}, {"b", "blue"})
#: ``sky: (1, 2, 3)``, and CVAT's ``sky:1,2,3::``.
_COLORED = re.compile(
    r"([^:=#]+?)\s*[:=]\s*[(\[]?\s*(\d+)[,\s]+(\d+)[,\s]+(\d+)\s*[)\]]?(?::[^:]*:[^:]*)?"
)
_NUMBERED = re.compile(r"(\d+)\s*[:=.)]?\s+(.+)")
#: ``sky: 3``, and ``sky 3`` where the names differ without their numbers, too.
_MARKED = re.compile(r"(.+?)\s*[:=]\s*(\d+)")
_ENDED = re.compile(r"(.+?)\s+(\d+)")
#: Words of a name; a line of more is a sentence.
_MOST_WORDS = 8


@dataclass(frozen=True)
class Row:
    """A class of a table.

    Attributes:
        name: Of the class.
        value: Its stored value; None where the table has none.
        color: Its packed color; None likewise.
    """

    name: str
    value: int | None = None
    color: int | None = None


def find_table(root: Path, names: Sequence[str]) -> Path | None:
    """The table of a folder, if there is one: the one that lies highest."""
    found = [
        name
        for name in names
        if Path(name).suffix.lower() in _SUFFIXES and Path(name).stem.lower() in _NAMES
    ]
    found.sort(key=lambda name: (name.count("/"), _NAMES.index(Path(name).stem.lower()), name))
    return root / found[0] if found else None


def read_table(path: Path) -> list[Row]:
    """Reads a table: a class a line, with its value and its red, green and blue; or JSON.

    Columns are told by their heading, where there is one, else by what stands in all of them: a
    whole number in front, or behind a comma, semicolon or tab, is the value, three in a row are a
    color. JSON is a list of names, of objects with ``name`` and ``id`` or ``color``, or an object
    of name to value or color, or of value to name.

    Raises:
        UserError: It cannot be read, or is no table of classes.
    """
    try:
        text = decode_text(path.read_bytes())
        rows = _from_json(json.loads(text)) if path.suffix == ".json" else _from_text(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as a table of classes ({error})") from error
    if not rows or not all(row.name for row in rows):
        raise UserError(
            f"{path}: is no table of classes, which has a name a line (lines that begin with # are "
            "comments); name another with --classes"
        )
    if any(len(row.name.split()) > _MOST_WORDS for row in rows):
        raise UserError(f"{path}: holds sentences, not names; name a table with --classes")
    return rows


def _from_text(text: str) -> list[Row]:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not re.match(r"#(?![0-9a-fA-F]{6}\b)", line)]
    named = [_COLORED.fullmatch(line) for line in lines]
    if lines and all(named):
        return [
            Row(match[1].strip(), None, _color([match[2], match[3], match[4]]))
            for match in named
            if match is not None
        ]
    delimiter = next((d for d in "\t;," if all(d in line for line in lines)), "")
    if delimiter:
        table = [
            [cell.strip() for cell in row]
            for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        ]
        return _from_columns(table)
    return _from_words(lines)


def _from_columns(table: list[list[str]]) -> list[Row]:
    heads = [cell.lower() for cell in table[0]] if table else []
    name = next((n for n, head in enumerate(heads) if head in _OF_NAMES), None)
    if name is not None and len(table) > 1:
        value = next((n for n, head in enumerate(heads) if head in _OF_VALUES), None)
        places = [
            next((n for n, h in enumerate(heads) if h in color), None) for color in _OF_COLORS
        ]
        rows = []
        for cells in table[1:]:
            cells = cells + [""] * (len(heads) - len(cells))
            color = _color([cells[place] for place in places if place is not None])
            if color is None:
                color = _hex_of(cells)
            found = None if value is None else _whole(cells[value])
            rows.append(Row(cells[name], found, color))
        return rows
    return [_row([part for cell in cells for part in _cell(cell)]) for cells in table]


def _cell(cell: str) -> list[str]:
    """A cell as it is, or its numbers where it holds nothing else."""
    parts = cell.split()
    return parts if all(_WHOLE.fullmatch(part) for part in parts) else [cell]


def _from_words(lines: list[str]) -> list[Row]:
    if len(lines) > 1 and lines[0].lower() in _OF_NAMES:
        lines = lines[1:]
    parts = [re.sub(r"[:=]\s*(?=[\d(\[#])", " ", line) for line in lines]
    split = [[p for p in re.split(r"[\s,()\[\]]+", line) if p] for line in parts]
    colored = [_color(words[-3:]) is not None and len(words) > 3 for words in split]
    first = [_color(words[:3]) is not None and len(words) > 3 for words in split]
    hexed = [_hex_of(words) is not None for words in split]
    # In all lines or in none: a number in a few names is a part of them.
    if split and (all(colored) or all(first) or all(hexed)):
        return [_row(words) for words in split]
    numbers = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(numbers):
        return [Row(" ".join(match[2].split()), int(match[1])) for match in numbers if match]
    for pattern in (_MARKED, _ENDED):
        ends = [match for line in lines if (match := pattern.fullmatch(line))]
        names, values = {match[1] for match in ends}, {int(match[2]) for match in ends}
        if len(ends) == len(lines) > 1 and len(values) == len(lines) == len(names):
            return [Row(" ".join(match[1].split()), int(match[2])) for match in ends]
    return [Row(" ".join(line.split())) for line in lines]


def _row(parts: list[str]) -> Row:
    """A row of parts whose numbers are a value and a color."""
    color = None
    for start in (len(parts) - 3, 0, 1):
        if (
            start >= 0
            and len(parts) > 3
            and (found := _color(parts[start : start + 3])) is not None
        ):
            color, parts = found, parts[:start] + parts[start + 3 :]
            break
    if color is None and (color := _hex_of(parts)) is not None:
        parts = [part for part in parts if not _HEX.fullmatch(part) or part.isdecimal()]
    value = None
    for place in (0, len(parts) - 1):
        if len(parts) > 1 and (value := _whole(parts[place])) is not None:
            parts = parts[:place] + parts[place + 1 :]
            break
    return Row(" ".join(parts), value, color)


def _whole(text: str) -> int | None:
    return int(float(text)) if _WHOLE.fullmatch(text) else None


def _color(parts: Sequence[str]) -> int | None:
    """Three numbers of a byte, or the same as shares of one."""
    if len(parts) != 3:
        return None
    if all(_WHOLE.fullmatch(part) for part in parts) and all("." not in part for part in parts):
        numbers = [int(part) for part in parts]
    else:
        try:
            shares = [float(part) for part in parts]
        except ValueError:
            return None
        if not all(0 <= share <= 1 for share in shares):
            return None
        numbers = [round(255 * share) for share in shares]
    return int(pack(*numbers)) if max(numbers) <= 255 else None


def _hex_of(parts: Sequence[str]) -> int | None:
    """A color as six hexadecimal digits; words and whole numbers may look like one."""
    for part in parts:
        match = _HEX.fullmatch(part)
        if match and (
            part[0] == "#" or part[:2] == "0x" or not (part.isalpha() or part.isdecimal())
        ):
            return int(match[1], 16)
    return None


def _from_json(plain: Any) -> list[Row]:
    for key in ("categories", "classes", "labels", "id2label"):
        if isinstance(plain, dict) and isinstance(plain.get(key), list | dict):
            plain = plain[key]
            break
    if isinstance(plain, dict):
        return [
            Row(str(value), int(key)) if str(key).isdecimal() else _pair(str(key), value)
            for key, value in plain.items()
        ]
    return [_object(each) for each in plain] if isinstance(plain, list) else []


def _object(given: Any) -> Row:
    if not isinstance(given, dict):
        return Row(str(given))
    name = given.get("name", given.get("label", given.get("title", "")))
    value = str(given.get("id", given.get("value", given.get("index", ""))))
    row = _pair(str(name), given.get("color", given.get("colour")))
    return Row(row.name, _whole(value), row.color)


def _pair(name: str, value: Any) -> Row:
    if isinstance(value, list):
        return Row(name, None, _color([str(each) for each in value[:3]]))
    if isinstance(value, str) and (match := _HEX.fullmatch(value)) and not value.isdecimal():
        return Row(name, None, int(match[1], 16))
    if isinstance(value, bool) or value is None:
        return Row(name)
    parts = [part for part in re.split(r"[\s,]+", name) if part]
    if isinstance(value, str) and (color := _color(parts)) is not None:
        return Row(value, None, color)
    if isinstance(value, int):
        return Row(name, value)
    return Row(name, _whole(str(value)))
