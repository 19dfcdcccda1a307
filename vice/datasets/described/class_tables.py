"""Tables of classes that people keep beside their labels: names, values and colors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vice.datasets.described.stored_values import pack
from vice.errors import UserError

#: What such files are called, without their suffix and in lower case.
_NAMES = ("classes", "class_dict", "class_names", "classnames", "labels", "label_colors",
          "labels_colors", "label_colours", "labelmap", "label_map", "colormap", "color_map",
          "colors", "categories", "objectinfo150")  # fmt: skip
_SUFFIXES = (".txt", ".csv", ".tsv", ".json")
_SPLIT = re.compile(r"\s*[,;\t|:]\s*|\s+")
_HEX = re.compile(r"#?([0-9a-fA-F]{6})")


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


def find_table(root: Path, names: list[str]) -> Path | None:
    """The table of a folder, if there is one: the one that lies highest."""
    found = [
        name
        for name in names
        if Path(name).suffix.lower() in _SUFFIXES and Path(name).stem.lower() in _NAMES
    ]
    found.sort(key=lambda name: (name.count("/"), _NAMES.index(Path(name).stem.lower()), name))
    return root / found[0] if found else None


def read_table(path: Path) -> list[Row]:
    """Reads a table: a class a line, in any order of name, value and red, green, blue; or JSON.

    JSON is a list of names, of objects with ``name`` and ``id`` or ``color``, or an object of name
    to value, or of value to name. A heading is left out.

    Raises:
        UserError: It cannot be read, or names no class.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _from_json(json.loads(text)) if path.suffix == ".json" else _from_lines(text)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table of classes ({error})") from error
    if not rows:
        raise UserError(f"{path}: names no class")
    return rows


def _from_lines(text: str) -> list[Row]:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    rows = [_row(line) for line in lines]
    # Heading: words above columns of numbers.
    if len(rows) > 1 and _bare(rows[0]) and not any(map(_bare, rows[1:])):
        rows = rows[1:]
    return [row for row in rows if row.name]


def _bare(row: Row) -> bool:
    return row.value is None and row.color is None


def _row(line: str) -> Row:
    parts = [part.strip("\"'()[]") for part in _SPLIT.split(line)]
    parts = [part for part in parts if part]
    numbers = [n for n, part in enumerate(parts) if part.isdecimal()]
    color = None
    # Color: three numbers of a byte in a row, at the end or the beginning.
    for start in (len(parts) - 3, 0, 1, len(parts) - 4):
        places = [start, start + 1, start + 2]
        if start >= 0 and set(places) <= set(numbers):
            red, green, blue = (int(parts[place]) for place in places)
            if max(red, green, blue) <= 255:
                color = int(pack(red, green, blue))
                parts = [part for n, part in enumerate(parts) if n not in places]
                break
    hexes = [part for part in parts if _HEX.fullmatch(part) and not part.isalpha()]
    if color is None and hexes and not hexes[0].isdecimal():
        color = int(hexes[0].lstrip("#"), 16)
        parts.remove(hexes[0])
    value = None
    for place in (0, len(parts) - 1):
        if len(parts) > 1 and parts[place].isdecimal():
            value = int(parts.pop(place))
            break
    return Row(" ".join(parts), value, color)


def _from_json(plain: Any) -> list[Row]:
    if isinstance(plain, dict) and isinstance(plain.get("categories"), list):
        plain = plain["categories"]
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
    value = given.get("id", given.get("value", given.get("index")))
    row = _pair(str(name), given.get("color", given.get("colour")))
    return Row(row.name, value if isinstance(value, int) else None, row.color)


def _pair(name: str, value: Any) -> Row:
    if isinstance(value, list) and len(value) >= 3 and all(isinstance(v, int) for v in value):
        return Row(name, None, int(pack(*value[:3])))
    if isinstance(value, str) and (match := _HEX.fullmatch(value)):
        return Row(name, None, int(match[1], 16))
    return Row(name, value if isinstance(value, int) and not isinstance(value, bool) else None)
