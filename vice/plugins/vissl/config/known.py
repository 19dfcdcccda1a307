"""Keys that a configuration may have: those of VISSL's defaults, and what ViCE adds to them."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from omegaconf import OmegaConf

from vice.errors import UserError
from vice.nearest import close_names
from vice.options import options_of
from vice.plugins.vissl.config.options import VISSL

logger = logging.getLogger(__name__)
#: Groups that ViCE adds; their keys, and those of ``VICE``, are checked by what they are for.
_OURS = frozenset({"VICE", "MODEL.TRUNK.VICE", "MODEL.TRUNK.EXECUTION", "LOSS.vice_method"})
#: Kinds of defaults, of values that may stand for one, and how they are called.
_KINDS: tuple[tuple[type, Any, str], ...] = (
    (bool, bool, "true or false"),
    (int, (int, float), "a number"),
    (float, (int, float), "a number"),
    (str, str, "text"),
    (list, list, "a list"),
    (dict, dict, "a group of keys"),
)
#: A number, or the text inf.
_ANY_KIND = frozenset({"MODEL.GRAD_CLIP.NORM_TYPE"})


def check_known(plain: Mapping[str, Any]) -> None:
    """Refuses misspelt keys, which a file or ``+`` may have, and tells of other unknown ones.

    VISSL reads some keys that its defaults do not have, such as those of an optimizer.

    Args:
        plain: ``config.*``.

    Raises:
        UserError: Names the first key that is much like one of its group.
    """
    unknown = []
    for key, siblings in _unknown(plain, vissl_defaults(), ""):
        name = key.rpartition(".")[2]
        near = close_names(name, siblings, most=1)
        if near:
            above = key.removesuffix(name)
            raise UserError(
                f"config key 'config.{key}' does not exist; did you mean config.{above}{near[0]}?"
            )
        unknown.append(f"config.{key}")
    if unknown:
        logger.warning(
            "neither ViCE nor VISSL's defaults have %s: it counts only where something reads it",
            ", ".join(unknown),
        )


def check_whole(plain: Mapping[str, Any]) -> None:
    """Refuses what lacks a key that VISSL's defaults have, which ``~`` takes out.

    Args:
        plain: ``config.*``.

    Raises:
        UserError: Names the first such key.
    """
    ruled = _ruled()
    missing = next((key for key in _missing(plain, vissl_defaults(), "") if key not in ruled), None)
    if missing:
        raise UserError(f"config.{missing} is missing, and VISSL reads it: do not take it out")


def check_kinds(plain: dict[str, Any]) -> None:
    """Refuses values that are of another kind than VISSL's default, such as a text for a number.

    Whole numbers become floats where VISSL's default is one: some of its parts ask for the type.

    Args:
        plain: ``config.*``; changed in place.

    Raises:
        UserError: Names the first such key.
    """
    _check_kinds(plain, vissl_defaults(), "", _ruled())


def _ruled() -> set[str]:
    """Keys of VISSL with a rule of ViCE's, which says what is wrong with them."""
    return {
        f"{prefix}.{name}".lstrip(".")
        for prefix, group in VISSL.items()
        for name in options_of(group)
    }


def _check_kinds(
    node: dict[str, Any], known: Mapping[str, Any], prefix: str, ruled: Collection[str]
) -> None:
    for name, usual in known.items():
        key, value = f"{prefix}{name}", node.get(name)
        if isinstance(usual, float) and type(value) is int:
            node[name] = value = float(value)
        if key in ruled or key in _OURS or key in _ANY_KIND or usual is None or name not in node:
            continue
        kind, text = next(each for of, *each in _KINDS if isinstance(usual, of))
        # Booleans are integers to Python.
        if not isinstance(value, kind) or isinstance(value, bool) != isinstance(usual, bool):
            raise UserError(f"config.{key}={value!r}: must be {text}")
        if isinstance(usual, list) and usual and all(isinstance(each, float) for each in usual):
            numbers = all(type(each) in (int, float) for each in value)
            node[name] = [float(each) for each in value] if numbers else value
        elif isinstance(usual, Mapping) and usual:
            _check_kinds(value, usual, f"{key}.", ruled)


@lru_cache(maxsize=1)
def vissl_defaults() -> Mapping[str, Any]:
    """``config`` of VISSL's defaults, with what ViCE adds to its groups."""
    spec = find_spec("vissl.config")
    assert spec is not None and spec.submodule_search_locations is not None
    file = os.path.join(spec.submodule_search_locations[0], "defaults.yaml")
    plain: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    for prefix, group in VISSL.items():
        node = plain["config"]
        for part in filter(None, prefix.split(".")):
            node = node.setdefault(part, {})
        for name in group if isinstance(group, Mapping) else ():
            node.setdefault(name, None)
    found: Mapping[str, Any] = plain["config"]
    return found


def _missing(node: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Keys of the defaults that a group does not have."""
    for name, usual in known.items():
        key, value = f"{prefix}{name}", node.get(name)
        if key in _OURS:
            continue
        if name not in node:
            yield key
        elif isinstance(value, Mapping) and isinstance(usual, Mapping):
            yield from _missing(value, usual, f"{key}.")


def _unknown(
    node: Mapping[str, Any], known: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, list[str]]]:
    """Keys that a group of the defaults does not have, each with those that it has."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in _OURS:
            continue
        if "." in str(name):
            parts = str(name).split(".")
            shown = ": {".join(parts) + ": ..." + "}" * (len(parts) - 1)
            raise UserError(
                f"config key 'config.{key}' has dots in its name, in a file: write its parts as "
                f"groups, one within the other ({shown})"
            )
        if name not in known:
            yield key, list(map(str, known))
            continue
        of_known = known[name]
        # Open group: where the defaults have an empty one, anything may stand.
        if isinstance(value, Mapping) and isinstance(of_known, Mapping) and of_known:
            yield from _unknown(value, of_known, f"{key}.")
