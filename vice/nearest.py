"""Which known name, or which file that is there, somebody means who has mistyped one."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection
from itertools import islice
from pathlib import Path

#: How alike two names have to be, from 0 to 1 (Ratcliff and Obershelp, as of `difflib`).
ALIKE = 0.7
#: Of short ones, in which a single letter counts more.
ALIKE_SHORT, SHORT = 0.65, 4
#: How much less alike than the nearest name another may be.
_SPREAD = 0.1
#: Names that are named at most.
MOST = 3
#: Names of a folder that are looked at: on a network disk a large one takes a while.
_LOOKS = 5000


def close_names(
    word: str, known: Collection[str], *, most: int = MOST, alike: float | None = None
) -> list[str]:
    """Known names that are much like one that is not known, whatever the case of their letters.

    Args:
        word: The name.
        known: Others.
        most: How many at most.
        alike: How alike they have to be, from 0 to 1; None: `ALIKE`, or `ALIKE_SHORT`.

    Returns:
        The most similar one first; may be empty.
    """
    # Sorted: of equally similar names the same ones come, in whatever order they are known.
    folded: dict[str, list[str]] = {}
    for name in sorted(known):
        folded.setdefault(name.casefold(), []).append(name)
    typed = word.casefold()
    if alike is None:
        alike = ALIKE if len(word) > SHORT else ALIKE_SHORT
    near = difflib.get_close_matches(typed, folded, n=most, cutoff=alike)
    # Those that are hardly less like it than the nearest one: the others were not meant.
    scores = [difflib.SequenceMatcher(None, each, typed).ratio() for each in near]
    near = [each for each, score in zip(near, scores, strict=True) if score > scores[0] - _SPREAD]
    return [name for each in near for name in folded[each]][:most]


def did_you_mean(
    word: str, known: Collection[str], otherwise: str = "", *, before: str = ""
) -> str:
    """The question which known names are meant, to go on with after a message.

    Args:
        word: A name that is not known.
        known: Those that are.
        otherwise: What to say where none of them is like it.
        before: What a name is offered with, and has no part in how alike they are.

    Example:
        >>> from vice.nearest import did_you_mean
        >>> did_you_mean("foldr", ["folder", "demo"])
        '; did you mean folder?'
        >>> did_you_mean("x", ["folder", "demo"], "choose one of demo, folder")
        '; choose one of demo, folder'
    """
    return _asked([f"{before}{name}" for name in close_names(word, known)], otherwise)


def near_path(path: str | Path, otherwise: str = "") -> str:
    """The question which file or folder is meant by a path that does not exist, in the same way.

    Each part of the path is compared with what lies there: of ``outptus/foldr`` it finds
    ``outputs/folder``. Hidden files are named only to those who ask for a hidden one.

    Args:
        path: As it was typed.
        otherwise: What to say where nothing is like it.
    """
    # What exists may still hold nothing of what was looked for.
    near = [] if os.path.exists(path) else _near_paths(Path(), Path(path).parts)
    # A link that leads to itself is there, and is not: nobody has mistyped it.
    return _asked([name for name in near if name not in (".", str(Path(path)))], otherwise)


def _asked(near: Collection[str], otherwise: str) -> str:
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; {otherwise}" if otherwise else ""


def _near_paths(above: Path, parts: tuple[str, ...]) -> list[str]:
    """Paths below a folder whose parts are like these, at most `MOST`."""
    if not parts:
        return [str(above)]
    here = above / parts[0]
    # Path length: os.path has an answer for names too long for the disk, too; Path raises.
    if os.path.exists(here):
        return _near_paths(here, parts[1:])
    found: list[str] = []
    for name in close_names(parts[0], _names(above, parts[0].startswith("."))):
        found += _near_paths(above / name, parts[1:])
    return found[:MOST]


def _names(folder: Path, hidden: bool) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _LOOKS)]
    except (OSError, ValueError):  # a name may hold what no disk takes
        return []
    return [name for name in names if name.startswith(".") == hidden]
