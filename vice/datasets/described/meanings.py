"""What stored values mean: from the values that occur, and a table of classes if there is one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vice.datasets.class_names import MAX_CLASSES
from vice.datasets.described.class_tables import Row
from vice.datasets.described.description import IGNORED
from vice.datasets.described.stored_values import unpack
from vice.errors import UserError
from vice.labels import IGNORE

#: Names of what is no class.
_VOID = re.compile(
    r"(void|unlabel+ed|un-?annotated|ignored?|unknown|unclassified|no ?label|undefined|nodata)"
    r"( .*)?",
    re.I,
)


@dataclass
class Meanings:
    """Classes and what stored values mean.

    Attributes:
        classes: Names in index order.
        values: Stored value to class or ``"ignore"``.
        decisions: What was decided, and why.
    """

    classes: list[str] = field(default_factory=list)
    values: dict[int, str] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)


def find_meanings(
    seen: Mapping[int, int], rows: Sequence[Row], *, colors: bool, table: str = ""
) -> Meanings:
    """Decides what each value means.

    Args:
        seen: Stored value to the number of its pixels, over the labels that were looked at.
        rows: The table of classes; empty where there is none.
        colors: Whether values are packed colors.
        table: What the table is called, for the reasons.

    Returns:
        The meanings; every value that occurs has one.

    Raises:
        UserError: More classes than an 8-bit index has room for, or values without a name.
    """
    found = Meanings()
    if rows:
        _by_table(found, seen, rows, colors, table)
    else:
        _by_values(found, seen, colors)
    if len(found.classes) > MAX_CLASSES:
        raise UserError(
            f"{len(found.classes)} different values: labels have at most {MAX_CLASSES} classes; "
            "are these numbers of objects, or depths?"
        )
    return found


def _by_values(found: Meanings, seen: Mapping[int, int], colors: bool) -> None:
    present = sorted(seen)
    if colors:
        for value in present:
            name = f"color {' '.join(map(str, unpack(value)))}"
            if value == 0:
                found.decisions.append(
                    "black is kept as a class; if it means unlabelled, write ignore beside it"
                )
            _add(found, value, name)
        found.decisions.append("classes are named by their colors, since no table names them")
        return
    if present in ([0, IGNORE], [0, 1]):
        _add(found, 0, "background")
        _add(found, present[1], "foreground")
        found.decisions.append(
            f"only {present[0]} and {present[1]} occur: {present[1]} is the foreground, no value "
            "is ignored"
        )
        return
    for value in present:
        if value == IGNORE and len(present) > 2:
            found.values[value] = IGNORED
            found.decisions.append(f"{IGNORE} occurs beside other values and is ignored")
        else:
            _add(found, value, f"class {value}")
    if present[0] == 0:
        found.decisions.append(
            "0 is kept as a class, since nothing says that it means unlabelled; if it does, write "
            "ignore beside it"
        )
    found.decisions.append("classes are named by their values, since no table names them")


def _by_table(
    found: Meanings, seen: Mapping[int, int], rows: Sequence[Row], colors: bool, table: str
) -> None:
    named = _keys(found, seen, rows, colors, table)
    repeated = Counter(row.name for _, row in named)
    for key, row in named:
        if _VOID.fullmatch(row.name.strip()) or (not colors and key == IGNORE):
            found.values[key] = IGNORED
            found.decisions.append(f"{_shown(key, colors)} is {row.name!r} in {table} and ignored")
        else:
            _add(found, key, row.name)
    if merged := [name for name, number in repeated.items() if number > 1]:
        found.decisions.append(f"values of one name are one class: {', '.join(merged)}")
    strange = [value for value in sorted(seen) if value not in found.values]
    for value in list(strange):
        if not colors and value in (0, IGNORE):
            found.values[value] = IGNORED
            strange.remove(value)
            found.decisions.append(f"{value} has no name in {table} and is ignored")
        elif colors and value == 0:
            found.values[value] = IGNORED
            strange.remove(value)
            found.decisions.append(f"black has no name in {table} and is ignored")
    if strange:
        total = sum(seen.values())
        share = 100 * sum(seen[value] for value in strange) / total
        shown = ", ".join(_shown(value, colors) for value in strange[:5])
        raise UserError(
            f"{len(strange)} values ({shown}; {share:.2g} % of the pixels) have no name in "
            f"{table}: add them there, or name another table with --classes"
        )
    absent = [name for key, name in found.values.items() if key not in seen and name != IGNORED]
    if absent:
        found.decisions.append(
            f"in none of the labels that were looked at: {', '.join(absent[:10])}"
            + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")
        )


def _keys(
    found: Meanings, seen: Mapping[int, int], rows: Sequence[Row], colors: bool, table: str
) -> list[tuple[int, Row]]:
    """The stored value of each row of a table."""
    if colors:
        lacking = [row.name for row in rows if row.color is None]
        if lacking:
            raise UserError(
                f"labels are colors, and {table} has no color for {lacking[0]}: write red, green "
                "and blue behind each name"
            )
        return [(int(row.color or 0), row) for row in rows]
    if all(row.value is not None for row in rows):
        return [(int(row.value or 0), row) for row in rows]
    # A table of names alone says nothing of where counting starts; the values may.
    present = [value for value in sorted(seen) if value != IGNORE]
    first = 1 if present and present[-1] == len(rows) and not _VOID.fullmatch(rows[0].name) else 0
    if first:
        zero = " and 0 is ignored" if 0 in seen else ""
        found.decisions.append(
            f"values reach {len(rows)}, the number of names in {table}: they count from 1{zero}"
        )
    else:
        found.decisions.append(f"names in {table} are those of 0, 1, 2 and so on")
    return list(enumerate(rows, first))


def _add(found: Meanings, value: int, name: str) -> None:
    if name not in found.classes:
        found.classes.append(name)
    found.values[value] = name


def _shown(value: int, colors: bool) -> str:
    return f"({', '.join(map(str, unpack(value)))})" if colors else str(value)
