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

#: What Python has for a byte that is no UTF-8.
ESCAPED = re.compile(r"[\udc80-\udcff]")
_MADE_WITH = re.compile("[\u200c\u200d\U000e0020-\U000e007f]")
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
    become escapes as in Python (``\xdf``, ``\n``, ``\x1b``, ``\u202e``); all else stays, also
    what this Python has no name for yet.
    """
    if name.isprintable():
        return name
    return "".join(map(_shown, name))


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs" or _is_new(character):
        return character
    if ESCAPED.match(character):
        return f"\\x{ord(character) - 0xDC00:02x}"
    # Joiners and tags are what some scripts, emoji and flags are made with.
    if _MADE_WITH.match(character):
        return character
    return _NAMED.get(character) or ascii(character)[1:-1]


def _is_new(character: str) -> bool:
    """Whether a character may be one of a later Unicode than Python's, as new emoji are."""
    number = ord(character)
    # Noncharacters are never going to be one.
    never = 0xFDD0 <= number <= 0xFDEF or number & 0xFFFE == 0xFFFE
    return unicodedata.category(character) == "Cn" and not never


def find_shown(path: str) -> str:
    """The path of a file that `printable` shows so; as it is where there is none.

    Args:
        path: Of a file that is there, or as a table shows it.
    """
    if os.path.lexists(path) or "\\" not in path:
        return path
    folder, name = os.path.split(path)
    if folder and folder != path:
        folder = find_shown(folder)
    try:
        names = os.listdir(folder or os.curdir)
    except OSError:
        return path
    found = next((each for each in sorted(names) if printable(each) == name), None)
    return path if found is None else os.path.join(folder, found)
