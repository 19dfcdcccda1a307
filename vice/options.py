"""Options as fields of a dataclass: name, type, default, range and meaning stand there alone.

A configuration, a help text and a signature are derived from the fields:

    @dataclass(frozen=True)
    class Options:
        clusters: int = option(20, whole(1, 10**6), "clusters that k-means looks for")

    check(Options, {"clusters": 0}, "config.VICE.METHOD")   # UserError: ...clusters=0: must be ...
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from vice.errors import UserError
from vice.nearest import did_you_mean

_Made = TypeVar("_Made")
#: Default of an option that has to be given.
REQUIRED: Any = object()


@dataclass(frozen=True)
class Rule:
    """What a value must be, in words ("must be ...") and as a function."""

    text: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        rule: What its value must be.
        meaning: What it does, with its unit, in a few words.
        default: Its value where none is given; `REQUIRED` if it has none.
    """

    rule: Rule
    meaning: str
    default: Any = REQUIRED


#: The options of a group: a dataclass, or by name.
Group = type | Mapping[str, Option]


def option(default: Any, rule: Rule, meaning: str) -> Any:
    """A field of a dataclass whose value can be set from outside.

    Args:
        default: Its value where none is given, or `REQUIRED`; a tuple where a configuration has a
            list.
        rule: What its value must be.
        meaning: What it does, with its unit, in a few words.

    Returns:
        What `dataclasses.field` returns.

    Example:
        >>> from dataclasses import dataclass
        >>> from vice.options import describe, option, whole
        >>> @dataclass(frozen=True)
        ... class Options:
        ...     clusters: int = option(20, whole(2, 255), "clusters that k-means looks for")
        >>> for line in describe(Options, "config.VICE.METHOD"):
        ...     print(line)
        config.VICE.METHOD.clusters=20
            clusters that k-means looks for; must be a whole number from 2 to 255
    """
    metadata = {"option": Option(rule, meaning, default)}
    return (
        field(metadata=metadata)
        if default is REQUIRED
        else field(default=default, metadata=metadata)
    )


def options_of(group: Group) -> dict[str, Option]:
    """Names of the options of a group, and what they are; other fields are left out."""
    if isinstance(group, Mapping):
        return dict(group)
    return {
        each.name: each.metadata["option"] for each in fields(group) if "option" in each.metadata
    }


def defaults(group: Group) -> dict[str, Any]:
    """Names of the options that have a default, and it; plain values, lists for tuples."""
    return {
        name: _plain(each.default)
        for name, each in options_of(group).items()
        if each.default is not REQUIRED
    }


def check(
    group: Group,
    values: Mapping[str, Any],
    prefix: str,
    groups: Collection[str] = (),
    *,
    others: bool = False,
) -> None:
    """Makes sure that values are there, known, and in their ranges.

    Args:
        group: A dataclass, or options by name.
        values: Plain values by name.
        prefix: The group's own key, for messages.
        groups: Names of groups that stand among the values and are checked by themselves.
        others: Whether other keys may stand there too.

    Raises:
        UserError: Names the first key that is wrong, and what it must be or the nearest one.
    """
    known = options_of(group)
    for name, each in known.items():
        if name not in values:
            raise UserError(f"{_key(prefix, name)} is missing: must be {each.rule.text}")
        require(_key(prefix, name), values[name], each.rule)
    if not others:
        check_options(group, values, prefix, groups)


def check_options(
    group: Group, values: Mapping[str, Any], prefix: str, groups: Collection[str] = ()
) -> None:
    """Makes sure that all values are of options that there are, as in `check`.

    Raises:
        UserError: Names the first key that is none, and the nearest one.
    """
    known = options_of(group)
    unknown = [str(name) for name in values if name not in known and name not in groups]
    if unknown:
        raise UserError(
            f"{prefix}: there is no option {unknown[0]!r}"
            + did_you_mean(unknown[0], [*known, *groups])
        )


def require(key: str, value: Any, rule: Rule) -> None:
    """Makes sure that one value holds.

    Raises:
        UserError: Names the key, the value and what it must be.
    """
    if not rule.holds(value):
        raise UserError(f"{key}={value!r}: must be {rule.text}")


def make(cls: type[_Made], values: Mapping[str, Any]) -> _Made:
    """A dataclass of options from the plain values of a configuration, which knows lists only."""
    return cls(**frozen(values))


def frozen(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a configuration, which knows lists only, as the classes of the core take them."""
    return {name: _frozen(value) for name, value in values.items()}


def describe(
    group: Group, prefix: str, values: Mapping[str, Any] | None = None, width: int = 100
) -> Iterator[str]:
    """Lines for a help text: each option's key and value, then its meaning and range.

    Args:
        group: A dataclass, or options by name.
        prefix: The group's own key.
        values: Values to show in place of the defaults.
        width: Columns.
    """
    shown = {**defaults(group), **(values or {})}
    for name, each in options_of(group).items():
        value = f"={_text(shown[name])}" if name in shown else ""
        yield f"{_key(prefix, name)}{value}"
        indent = " " * 4
        text = f"{each.meaning}; must be {each.rule.text}"
        yield from textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)


def _key(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _text(value: Any) -> str:
    """A value as it is typed in an override."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def whole(least: int, most: int) -> Rule:
    """A whole number in a range, its ends included."""
    text = f"a whole number from {least} to {most}"
    return Rule(text, lambda value: type(value) is int and least <= value <= most)


def number(least: float, most: float) -> Rule:
    """A finite number in a range, its ends included."""

    def holds(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and least <= value <= most

    return Rule(f"a number from {least:g} to {most:g}", holds)


def one_of(*names: str) -> Rule:
    """One of a few names."""
    return Rule(f"one of {', '.join(names)}", lambda value: value in names)


def list_of(rule: Rule, least: int, most: int) -> Rule:
    """A list (or a tuple) of a length in a range, each element as a rule says."""

    def holds(value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and least <= len(value) <= most
            and all(map(rule.holds, value))
        )

    length = f"{least}" if least == most else f"{least} or more"
    return Rule(f"a list of length {length}, each {rule.text}", holds)


def either(*rules: Rule) -> Rule:
    """What one of several rules lets pass."""
    text = ", or ".join(rule.text for rule in rules)
    return Rule(text, lambda value: any(rule.holds(value) for rule in rules))


def word(text: str) -> Rule:
    """One word."""
    return Rule(text, lambda value: value == text)


FLAG = Rule("true or false", lambda value: type(value) is bool)
NULL = Rule("null", lambda value: value is None)
AUTO = word("auto")
# A line break would end the comment line of a script and run what follows it.
LINE = Rule("one line of text", lambda v: isinstance(v, str) and not set(v) & set("\n\r\0"))
PATH = Rule("a path", lambda v: isinstance(v, str) and bool(v.strip()) and "\0" not in v)
SHARE = number(0, 1)
POSITIVE = number(1e-6, 1e6)
PIXELS = whole(1, 2**14)
STEPS = whole(0, 10**9)


def flatten(node: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested groups as dotted keys with their values as text."""
    if not isinstance(node, dict):
        return [(prefix.rstrip("."), str(node))]
    return [item for key, value in node.items() for item in flatten(value, f"{prefix}{key}.")]
