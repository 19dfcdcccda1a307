"""File names as bytes and as text that can be shown.

On POSIX a name is any bytes but the slash and zero. Python stands for a byte that is no UTF-8 with
a lone surrogate (PEP 383), which no encoder takes by itself.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

_ESCAPED = re.compile(r"[\udc80-\udcff]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def name_bytes(name: str) -> bytes:
    """The bytes of a file name; of one that is UTF-8 the same as ``name.encode()``."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # A surrogate that stands for no byte, as a JSON file may hold it.
        return name.encode("utf-8", "surrogatepass")


@contextmanager
def utf8_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """A path to a file that is read by a library which takes UTF-8 only, as safetensors does."""
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        with open(path, "rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield str(path)


def printable(name: str) -> str:
    r"""A name on one line of text that every terminal, page and picture takes.

    Bytes that are no UTF-8, control characters, and marks that change the direction of the text
    become escapes as in Python (``\xdf``, ``\n``, ``\x1b``, ``\u202e``); all else stays.
    """
    if name.isprintable():
        return name
    return "".join(map(_shown, name))


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    if _ESCAPED.match(character):
        return f"\\x{ord(character) - 0xDC00:02x}"
    # Joiners are what some scripts and emoji are made with.
    if character in "\u200c\u200d":
        return character
    return _NAMED.get(character) or ascii(character)[1:-1]
