"""Groups in braces, as in ``config.VICE={HEALTH:{pictures:2}}``: the keys that they set."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from vice.options import flatten

#: Group of which VISSL knows no key: all that sbatch takes is one.
_OPEN = "config.SLURM.ADDITIONAL_PARAMETERS"


def leaves(text: str) -> list[tuple[str, str]]:
    """The keys that an override gives values, and these as text; of a group in braces its own."""
    key, _, value = text.lstrip("+").partition("=")
    if not value.startswith("{"):
        return [(key, value)]
    group: Any = OverridesParser.create().parse_override(text).value()
    return flatten(group, f"{key}.") if group else []


def keys_set(text: str) -> Iterator[str]:
    """The key that an override sets; of a group in braces all keys in it."""
    key, _, value = text.lstrip("+").partition("=")
    yield key
    if value.startswith("{"):
        yield from _below(key, OverridesParser.create().parse_override(text).value())


def _below(key: str, value: Any) -> Iterator[str]:
    for name, each in value.items() if isinstance(value, dict) else ():
        yield f"{key}.{name}"
        yield from _below(f"{key}.{name}", each)


def with_known(text: str, known: Container[str]) -> Iterator[str]:
    """An override as Hydra takes it: what is known and stands in no file is added.

    Of a group in braces each such key by itself, after the others.
    """
    key, _, value = text.partition("=")
    plain = key.lstrip("+")
    if plain in known or _is_open(plain):
        yield f"++{text.lstrip('+')}"
    elif key != plain or not value.startswith("{"):
        yield text
    else:
        override = OverridesParser.create().parse_override(text)
        added: dict[str, Any] = {}
        left = _take_known(override._value, key, known, added)
        if left or not added:
            yield f"{key}={_written(override, left)}"
        yield from (f"++{name}={_written(override, each)}" for name, each in added.items())


def _take_known(group: Any, key: str, known: Container[str], taken: dict[str, Any]) -> Any:
    """A group without what is known in it, which is put into others by its whole key."""
    left = {}
    for name, each in group.items():
        inner = f"{key}.{name}"
        if inner in known or _is_open(inner):
            taken[inner] = each
            continue
        rest = _take_known(each, inner, known, taken) if isinstance(each, dict) else each
        if rest or rest == each:
            left[name] = rest
    return left


def _written(override: Override, value: Any) -> str:
    """A value in Hydra's words, with the quotes of those that it was read from."""
    return replace(override, _value=value).get_value_element_as_str()


def _is_open(key: str) -> bool:
    return f"{key}.".startswith(f"{_OPEN}.")
