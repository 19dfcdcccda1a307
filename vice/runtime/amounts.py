"""Amounts of memory, as people write and read them."""

from __future__ import annotations

import re

from vice.errors import UserError

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", 1):
    _UNITS[f"{_letter}b"] = 1000**_power
    _UNITS[f"{_letter}ib"] = _UNITS[_letter] = 1024**_power
_TEXT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z]*)\s*")


def to_bytes(memory: int | str, name: str = "memory") -> int:
    """Bytes that an amount of memory says: a number of them, or a text such as ``"2GiB"``.

    Args:
        memory: K, M, G and T with ``iB`` (or alone) are powers of 1024, with ``B`` of 1000.
        name: What it is called, for the message.

    Raises:
        UserError: It is no amount of memory, or none at all.
    """
    match = _TEXT.fullmatch(memory) if isinstance(memory, str) else None
    value = 0
    if isinstance(memory, int) and not isinstance(memory, bool):
        value = memory
    elif match and match[2].lower() in _UNITS:
        value = int(float(match[1]) * _UNITS[match[2].lower()])
    if value < 1:
        raise UserError(
            f"{name}={memory!r} is no amount of memory: give bytes, or a text such as '2GiB'"
        )
    return value


def in_words(count: float) -> str:
    """An amount of memory, for people."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1024:.3g} KiB"
