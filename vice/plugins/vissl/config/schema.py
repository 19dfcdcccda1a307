"""Which options a configuration has, and which are filled in where nothing is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, open_dict

from vice.errors import UserError
from vice.images import StandardSize
from vice.methods import DEFAULT, METHODS, NAMES, find_method
from vice.models import EmbedderOptions
from vice.models.execution import Execution
from vice.options import Group, Option, Rule, defaults, options_of, require
from vice.plugins.vissl.config.options import (
    VISSL,
    DataOptions,
    HealthOptions,
    RunOptions,
    ScheduleOptions,
    TrackingOptions,
)

_NAME = Option(
    Rule(NAMES, lambda value: isinstance(value, str)),
    "method of training",
    DEFAULT,
)


def groups(method: str) -> dict[str, Group]:
    """The groups of options of a training, by their keys without ``config.``, in order.

    Args:
        method: As `vice.methods.find_method` takes it.

    Raises:
        UserError: There is no such method.
    """
    method_class = find_method(method)
    return {
        "VICE": RunOptions,
        "VICE.METHOD": {"name": _NAME, **options_of(method_class.Options)},
        "VICE.DATASET": DataOptions,
        "VICE.STANDARDIZE": StandardSize,
        **{f"VICE.{name}": group for name, group in method_class.sections.items()},
        "VICE.SCHEDULE": ScheduleOptions,
        "VICE.HEALTH": HealthOptions,
        "VICE.TRACKING": TrackingOptions,
        "MODEL.TRUNK.VICE": EmbedderOptions,
        "MODEL.TRUNK.EXECUTION": Execution,
    }


def all_options() -> dict[str, Option]:
    """Every option that some method has, and those of VISSL that ViCE relies on, by its key."""
    return {
        ".".join(filter(None, (prefix, name))): option
        for prefix, group in (*_all_groups(), *VISSL.items())
        for name, option in options_of(group).items()
    }


def known_keys(more: Iterable[str] = ()) -> dict[str, str]:
    """Keys of the options and groups that `fill` knows, with ``config.``, and what they must be.

    Args:
        more: Methods beside those of ViCE.
    """
    keys = {}
    for prefix, group in _all_groups(more):
        if "." in prefix:
            keys[f"config.{prefix}"] = "a group of keys"
        keys |= {f"config.{prefix}.{name}": o.rule.text for name, o in options_of(group).items()}
    return keys


def methods_with(prefix: str, option: str) -> list[str]:
    """Names of ViCE's methods that have an option by that name in a group."""
    return [name for name in METHODS if option in options_of(groups(name).get(prefix, {}))]


def inner_groups(prefix: str, method_groups: Iterable[str]) -> set[str]:
    """Names of the groups that stand in another one: some, and those of ViCE's methods."""
    start = f"{prefix}."
    keys = (*method_groups, *(key for key, _ in _all_groups()))
    names = (key.removeprefix(start) for key in keys if key.startswith(start))
    return {name for name in names if "." not in name}


def method_of(config: DictConfig) -> str:
    """The name of the method; the default if there is none.

    Args:
        config: ``config.*``, composed, resolved or not.

    Raises:
        UserError: No method has that name.
    """
    group = node_at(config, "VICE.METHOD")
    name = group._get_node("name") if is_group(group) else None
    value = DEFAULT if name is None else name._value()
    require("config.VICE.METHOD.name", value, _NAME.rule)
    try:
        find_method(value)
    except UserError as error:
        raise UserError(f"config.VICE.METHOD.name={value}: {error}") from error
    return str(value)


def fill(composed: DictConfig) -> set[str]:
    """Adds the options that a composed configuration says nothing of, before it is resolved.

    Returns:
        Their keys, without ``config.``.
    """
    config, filled = node_at(composed, "config"), set()
    with open_dict(composed):
        for prefix, group in groups(method_of(config)).items():
            outer, _, name = prefix.rpartition(".")
            above = node_at(config, outer)
            if outer and is_group(above) and above._get_node(name) is None:
                above[name] = {}
            node = node_at(config, prefix)
            for key, value in defaults(group).items() if is_group(node) else ():
                # Interpolations: a key whose value cannot be resolved is there all the same.
                if node._get_node(key) is None:
                    node[key] = value
                    filled.add(f"{prefix}.{key}")
    return filled


def node_at(node: Any, key: str) -> Any:
    """What stands under a dotted key of a configuration that is not resolved; None for nothing."""
    for name in filter(None, key.split(".")):
        node = node._get_node(name) if is_group(node) else None
    return node


def group_at(plain: Any, name: str) -> dict[str, Any]:
    """A group of a plain configuration by its dotted key.

    Raises:
        UserError: Something else stands there.
    """
    node = plain
    for part in filter(None, name.split(".")):
        node = node.get(part) if isinstance(node, Mapping) else None
    if not isinstance(node, dict):
        raise UserError(f"config.{name} is {node!r}, but must be a group of keys")
    return node


def is_group(node: Any) -> bool:
    """Whether a node is a group of keys, and not null or an interpolation."""
    return isinstance(node, DictConfig) and not (
        node._is_none() or node._is_interpolation() or node._is_missing()
    )


def _all_groups(more: Iterable[str] = ()) -> Iterator[tuple[str, Group]]:
    for method in {**METHODS, **dict.fromkeys(more)}:
        yield from groups(method).items()
