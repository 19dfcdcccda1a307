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
    """An amount of memory, for people.

    Example:
        >>> from vice.runtime.amounts import in_words
        >>> in_words(2_500_000), in_words(2**20 - 1), in_words(2.0e12), in_words(5e15)
        ('2.38 MiB', '1 MiB', '1.82 TiB', '4,547 TiB')
    """
    units = ("KiB", "MiB", "GiB", "TiB")
    # Three digits: what would be shown with four is told in the next unit.
    place = next((n for n in range(len(units)) if count < 999.5 * 1024 ** (n + 1)), len(units) - 1)
    value = count / 1024 ** (place + 1)
    return f"{value:,.0f} {units[place]}" if value >= 999.5 else f"{value:.3g} {units[place]}"
