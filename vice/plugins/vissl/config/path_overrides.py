"""Overrides that hold paths, read as paths whatever Hydra's grammar makes of their characters."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from vice.errors import UserError
from vice.runtime.overrides import escape, expand, quote, quote_value, shell_word, unescape


@dataclass(frozen=True)
class PathKey:
    """What a key that holds paths may hold.

    Attributes:
        several: A list of paths.
        words: Values that are no path.
        there: Whether the path has to exist.
    """

    several: bool = False
    words: tuple[str, ...] = ()
    there: bool = False


PATHS = {
    "config.DATA.TRAIN.DATA_PATHS": PathKey(several=True, there=True),
    "config.VICE.HEALTH.held_out_paths": PathKey(several=True, there=True),
    "config.VICE.DATASET.root": PathKey(),
    "config.CHECKPOINT.DIR": PathKey(words=("null",)),
    "config.SLURM.LOG_FOLDER": PathKey(words=("null",)),
    "config.VICE.SUPERPIXELS.cache_dir": PathKey(words=("null",)),
    "config.VICE.SUPERPIXELS.folder": PathKey(words=("null",), there=True),
    "config.VICE.METHOD.labels_folder": PathKey(words=("null",), there=True),
    "config.VICE.METHOD.cache_dir": PathKey(words=("null",)),
    "config.VICE.FOREGROUND.cache_dir": PathKey(words=("null",)),
    "config.VICE.FOREGROUND.folder": PathKey(words=("null",), there=True),
    "config.MODEL.TRUNK.VICE.weights": PathKey(words=("null", "imagenet"), there=True),
}
_OVERRIDE = re.compile(r"(\+{0,2})(config\.[\w.]+)=(.*)", re.DOTALL)
#: Characters that Hydra's grammar or OmegaConf's gives a meaning in any place.
_SPECIAL = frozenset("'\"[]{}$\\")
_INTERPOLATION = re.compile(r"\$\{[^'\"\\]*\}")
#: Parts of a list: quoted, an escaped character, an interpolation, or any character.
_PART = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\\.|\$\{[^}]*\}|.""", re.DOTALL)
#: A value that whoever wrote it has quoted: the shell has parted nothing from it.
_QUOTED = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
_TOOLS = ("run_distributed.py", "cache_superpixels.py")


def literal_paths(overrides: Sequence[str]) -> list[str]:
    """Overrides whose paths Hydra takes literally, absolute and with ``~`` expanded.

    Hydra's quotes, escapes and ``${...}`` count where they are used. All other characters are the
    path's own, so that neither ``2023`` nor ``true`` changes its type and ``(1)`` is no call.

    Args:
        overrides: As they were typed.

    Returns:
        As many overrides; those of other keys are as they were.

    Raises:
        UserError: A path that cannot be read, or reads as others that do not exist while it does;
            ends with the command that takes it literally.
    """
    return [_read(number, overrides) for number in range(len(overrides))]


def absolute_paths(plain: dict[str, Any]) -> None:
    """Makes the paths of a resolved configuration absolute, those of its files too, in place."""
    for name, key in PATHS.items():
        *groups, last = name.split(".")
        node: Any = plain
        for group in groups:
            node = node.get(group) if isinstance(node, dict) else None
        if isinstance(node, dict) and last in node:
            value = node[last]
            node[last] = (
                [_absolute(key, item) for item in value]
                if isinstance(value, list)
                else _absolute(key, value)
            )


def _absolute(key: PathKey, value: Any) -> Any:
    if not isinstance(value, str) or not value.strip() or value in key.words:
        return value
    return expand(value)


def _read(number: int, overrides: Sequence[str]) -> str:
    match = _OVERRIDE.fullmatch(overrides[number])
    key = PATHS.get(match[2]) if match else None
    if match is None or key is None:
        return overrides[number]
    typed, text = match[3], match[3].strip(" \t")
    end = _split_end(number, text, overrides, key)
    if end > number + 1:
        typed = text = " ".join([text, *overrides[number + 1 : end]])
        reason = "the shell parts it at its spaces"
    elif (not key.several and text.lower() in key.words) or _INTERPOLATION.fullmatch(text):
        return overrides[number]
    else:
        values = _values(key, text)
        reason = _objection(key, typed, values)
        if not reason:
            quoted = ",".join(map(_literal, values or []))
            return f"{match[1]}{match[2]}={f'[{quoted}]' if key.several else quoted}"
    message = f"{match[2]}={text}: {reason}"
    meant = _meant(key, typed)
    if meant is None:
        raise UserError(message)
    quoted = ",".join(map(quote, meant))
    mended = f"{match[1]}{match[2]}={f'[{quoted}]' if key.several else quoted}"
    command = _retyped(overrides, {number: mended}, range(number + 1, end))
    raise UserError(f"{message}; to take the path literally: {command}")


def _split_end(number: int, text: str, overrides: Sequence[str], key: PathKey) -> int:
    """Behind the last override that the shell has parted from a path with spaces."""
    end = number + 1
    if _QUOTED.fullmatch(text):
        return end
    if key.several and not (text.startswith("[") and not text.endswith("]")):
        return end
    while end < len(overrides) and re.match(r"(?![-+~]|[\w.]+=).", overrides[end]):
        end += 1
        if key.several and overrides[end - 1].endswith("]"):
            break
    return end


def _values(key: PathKey, text: str) -> list[str] | None:
    """The strings as OmegaConf has them; None if the text holds other things than strings."""
    if not key.several:
        parts = [text]
    elif not (len(text) > 1 and text.startswith("[") and text.endswith("]")):
        return None
    else:
        parts = _parts(text[1:-1])
    values = [_value(part) for part in parts]
    return [value for value in values if value is not None] if None not in values else None


def _parts(text: str) -> list[str]:
    """The elements of a list without its brackets."""
    parts = [""]
    for match in _PART.finditer(text):
        if match[0] == ",":
            parts.append("")
        else:
            parts[-1] += match[0]
    return [part.strip(" \t") for part in parts] if text.strip() else []


def _value(text: str) -> str | None:
    if not _SPECIAL & set(text):
        return escape(text)
    try:
        override = OverridesParser.create().parse_override(f"path={text}")
    except HydraException:
        return None
    value = None if override.is_sweep_override() else override.value()
    return value if isinstance(value, str) else None


def _literal(value: str) -> str:
    """A string of OmegaConf in Hydra's grammar; as an absolute path if it is known by now."""
    path = unescape(value)
    return quote_value(value) if path is None or not path.strip() else quote(expand(path))


def _objection(key: PathKey, typed: str, values: list[str] | None) -> str:
    """What is wrong with the strings that Hydra's grammar gives; empty if nothing is."""
    if values is None:
        return "must be a list of paths" if key.several else "must be a path"
    if not key.there:
        return ""
    paths = [unescape(value) for value in values]
    missing = [path for path in paths if path is None or not os.path.lexists(expand(path))]
    meant = _meant(key, typed) if missing else None
    if meant is None or meant == paths or not all(os.path.lexists(expand(path)) for path in meant):
        return ""
    return f"Hydra reads {', '.join(map(str, paths))}, which does not exist"


def _meant(key: PathKey, typed: str) -> list[str] | None:
    """The paths that a text is likely to mean: those that exist, or the text as it stands."""
    if not key.several and os.path.lexists(expand(typed)):
        # Surrounding spaces count, which Hydra's grammar drops.
        return [typed]
    text = typed.strip(" \t")
    inside = text.removeprefix("[").removesuffix("]") if key.several else text
    bare = _without_quotes(inside)
    readings = [[inside], [text], [bare], _parts(inside), [*map(_without_quotes, _parts(inside))]]
    for reading in readings:
        if all(path and os.path.lexists(expand(path)) for path in reading) and reading:
            return reading
    return [bare] if bare.strip() else None


def _without_quotes(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _retyped(overrides: Sequence[str], new: dict[int, str], dropped: range) -> str:
    """The command that was typed, with some overrides replaced and some left out."""
    words, remaining = [], dict(enumerate(overrides))
    typed = sys.argv if Path(sys.argv[0]).name in _TOOLS else [f"tools/{_TOOLS[0]}", *overrides]
    for word in typed[1:]:
        number = next((number for number, override in remaining.items() if override == word), -1)
        remaining.pop(number, None)
        if number not in dropped:
            words.append(new.get(number, word))
    return " ".join(["python", *map(shell_word, [typed[0], *words])])
