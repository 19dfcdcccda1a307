"""Quoting of paths as text: in Hydra's override grammar, in OmegaConf's, and in a shell's."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

_PLAIN_WORD = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
#: What bash goes on reading between double quotes.
_ACTIVE = frozenset('$"\\!`')


def quote(path: str | Path) -> str:
    """A path as a value in Hydra's grammar, taken literally whatever characters it holds."""
    return quote_value(escape(str(path)))


def quote_value(text: str) -> str:
    """A string of OmegaConf, whose ``${...}`` still counts, as a value in Hydra's grammar."""
    mark = '"' if "'" in text and '"' not in text else "'"
    # Escaping: inside quotes, a backslash is special only before a quote.
    special = re.compile(rf"(\\*)({mark}|\Z)")
    inside = special.sub(lambda match: match[1] * 2 + ("\\" + mark if match[2] else ""), text)
    return f"{mark}{inside}{mark}"


def escape(text: str) -> str:
    """A literal text as OmegaConf has to be given it: ``${`` is no interpolation."""
    return re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", text)


def unescape(text: str) -> str | None:
    """The literal text of a string of OmegaConf; None if it holds an interpolation."""
    if any(len(backslashes) % 2 == 0 for backslashes in re.findall(r"(\\*)\$\{", text)):
        return None
    return re.sub(r"(\\+)\$\{", lambda m: m[1][: len(m[1]) // 2] + "${", text)


def expand(path: str) -> str:
    """A path made absolute, with ``~`` and ``~name`` in front as a shell reads them."""
    return str(Path(os.path.expanduser(path)).absolute())


def shell_word(text: str) -> str:
    """A text as one word of bash, to be pasted into a terminal."""
    if _PLAIN_WORD.fullmatch(text):
        return text
    if not text.isprintable():
        return f"$'{''.join(map(_ansi_c, text))}'"
    return shlex.quote(text) if _ACTIVE & set(text) else f'"{text}"'


def _ansi_c(character: str) -> str:
    if character in "'\\":
        return "\\" + character
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
