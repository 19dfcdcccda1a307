"""From overrides to a configuration that is whole but not checked, and to its help text."""

from __future__ import annotations

import pickle
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf import Container as Node
from omegaconf.errors import OmegaConfBaseException
from vissl.utils.hydra_config import compose_hydra_configuration
from yaml import YAMLError

from vice.errors import UserError
from vice.methods import METHODS, find_method
from vice.nearest import did_you_mean
from vice.options import describe, flatten
from vice.paths import config_names
from vice.plugins.vissl.config.braces import keys_set, leaves, with_known
from vice.plugins.vissl.config.config_files import read_by_hydra
from vice.plugins.vissl.config.earlier import name_trunk
from vice.plugins.vissl.config.explain import explain, named, without_vice
from vice.plugins.vissl.config.file_checks import (
    by_key,
    check_file,
    check_replaced,
    left_missing,
)
from vice.plugins.vissl.config.interpolations import check_interpolations
from vice.plugins.vissl.config.options import VISSL
from vice.plugins.vissl.config.override_form import TOP, check_form
from vice.plugins.vissl.config.path_overrides import absolute_paths, literal_paths
from vice.plugins.vissl.config.schema import (
    fill,
    group_at,
    groups,
    is_group,
    known_keys,
    method_of,
    node_at,
)
from vice.runtime.overrides import escape

#: Global state: Hydra composes one configuration at a time; two threads would leave it unable to.
_HYDRA = threading.Lock()
#: An override that names files; the same key with a group in braces sets values.
_FILES = re.compile(r"[+~]{0,2}config(/[^=.]*)?(=(?!\{).*)?")
#: What names begin with that stand beside ``config:`` for YAML's anchors alone.
_ANCHORS = ("x-", "_", ".")
#: An override that names a method of somebody else's.
_METHOD = re.compile(r"\+{0,2}config\.VICE\.METHOD\.name=([\w.]+:\w+)")


def compose(overrides: list[str]) -> DictConfig:
    """Composes overrides into a configuration without interpolations or unknown keys.

    Paths are read by `vice.plugins.vissl.config.path_overrides`. Options that no config and no
    override names have the defaults of `vice.plugins.vissl.config.schema`, and can be set as those
    that do.

    Raises:
        UserError: What Hydra or OmegaConf object to, in one message with the nearest valid key.
    """
    return compose_with_defaults(overrides)[0]


def compose_with_defaults(
    overrides: list[str], *, finish: Callable[[Any], None] = absolute_paths
) -> tuple[DictConfig, set[str]]:
    """`compose`, and the keys (without ``config.``) whose values are defaults of the schema.

    Args:
        overrides: As they were typed.
        finish: What is done to the plain, resolved configuration in place.
    """
    _refuse_moved(overrides)
    overrides = literal_paths(overrides)
    overrides = check_form(overrides)
    try:
        composed, filled = _compose(overrides)
        _check_missing(composed, overrides)
        _check_groups(composed, overrides)
        check_interpolations(composed)
        composed = _resolved(composed, finish)
    # ValueError: Hydra means some of its own for the user.
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(explain(error, overrides, _nearest)) from error
    except RecursionError as error:
        raise UserError(
            f"the defaults lists of {named(overrides)} lead back to themselves: take one out"
        ) from error
    except YAMLError as error:
        raise UserError(
            f"a config file is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if "VICE" not in composed.config:
        raise UserError(without_vice(overrides))
    name_trunk(composed.config, overrides)
    _leave_to_others(composed.config, overrides)
    # Struct mode ends: VISSL reads keys that it fills in later.
    OmegaConf.set_struct(composed, False)
    return composed, filled


def _check_missing(composed: DictConfig, overrides: list[str]) -> None:
    """Refuses what a file says is missing, where nothing but what it builds on has a value."""
    values = dict(by_key(OmegaConf.to_container(composed, resolve=False)))
    key = next((key for key, value in values.items() if value == MISSING), None)
    if key is not None:
        raise UserError(
            f"{key} is ??? in a file of {named(overrides)}, which stands for a value that is "
            "missing: give one there, or on the command line"
        )
    files = tuple(text for text in overrides if _FILES.fullmatch(text))
    given = {key.lstrip("~") for text in overrides if text not in files for key, _ in leaves(text)}
    for path, key, value in _left_missing(files, read_by_hydra()):
        of_it = [key, *(key[:end] for end in range(len(key)) if key[end] in ".[")]
        if not given.intersection(of_it) and values.get(key) == value:
            raise UserError(
                f"{path}: {key} is ???, which stands for a value that is missing, and what the "
                f"file builds on has {value} there: leave the line out, or give one"
            )


@lru_cache(maxsize=32)
def _left_missing(files: tuple[str, ...], read: object) -> list[tuple[str, str, Any]]:
    return left_missing([name for text in files for name in config_names(text)], _alone)


def _check_groups(composed: DictConfig, overrides: list[str]) -> None:
    """Refuses another thing in place of a group that others refer to, before that is resolved."""
    for name in (
        "config",
        "config.VICE",
        "config.MODEL",
        "config.MODEL.TRUNK",
        "config.CHECKPOINT",
    ):
        above, _, last = name.rpartition(".")
        group = node_at(composed, above)
        node = group._get_node(last) if last in group else None
        if node is not None and not is_group(node):
            raise UserError(f"{name}={node._value()!r}: must be a group of keys")
        if node is None and f"~{name}" in overrides:
            raise UserError(f"~{name}: a training reads it; leave ~{name} out")
    _check_beside(composed, overrides)


def _check_beside(composed: DictConfig, overrides: list[str]) -> None:
    """Refuses what stands beside ``config:`` and is neither looked up by it nor an anchor's."""
    plain = OmegaConf.to_container(composed, resolve=False)
    said = "\n".join(text for _, text in flatten(plain))
    for name in map(str, set(composed) - TOP):
        if name.startswith(_ANCHORS) or re.search(rf"\$\{{\.*{re.escape(name)}\b", said):
            continue
        typed = [each for each in overrides if re.match(rf"\+*{re.escape(name)}\b", each)]
        if typed:
            raise UserError(
                f"{typed[0]}: nothing reads {name}; settings of a training begin with config."
            )
        raise UserError(
            f"{named(overrides)}: {name} stands beside config:, where nothing reads it; write it "
            "below config:, indented"
        )


def help_text(overrides: list[str]) -> str:
    """Every option of a configuration: its value there, what it means and what it may be.

    Raises:
        UserError: As `compose`, and of a key that there is not.
    """
    # PyTorch's networks take seconds to import.
    from vice.plugins.vissl.config.checks import check_names

    config = compose_with_defaults(overrides, finish=lambda plain: None)[0].config
    check_names(config)
    plain = OmegaConf.to_container(config)
    lines: list[str] = []
    for prefix, group in {**groups(method_of(config)), **VISSL}.items():
        key = ".".join(filter(None, ("config", prefix)))
        lines += describe(group, key, group_at(plain, prefix))
    return "\n".join(lines)


def _refuse_moved(overrides: list[str]) -> None:
    """Keys of earlier versions that say again what stands under ``config.VICE``."""
    for text in overrides:
        key, _, value = text.lstrip("+").partition("=")
        name = key.removeprefix("config.LOSS.vice_dense_swav.")
        if name != key:
            groups = {"num_views": "VIEWS", "num_prototypes": "PROTOTYPES", "dim": "PROTOTYPES"}
            raise UserError(
                f"{text}: set config.VICE.{groups.get(name, 'LOSS')}.{name}={value} instead, the "
                "only place where this option stands"
            )


def _leave_to_others(config: DictConfig, overrides: list[str]) -> None:
    """Takes out the groups of other methods, which a config may have been written for."""
    method = method_of(config)
    others = {name for each in METHODS.values() for name in each.sections}
    for name in others - set(find_method(method).sections):
        key = f"config.VICE.{name}"
        named = [
            text for text in overrides
            if any(f"{each}.".startswith(f"{key}.") for each in keys_set(text))
        ]  # fmt: skip
        if named:
            raise UserError(f"{named[0]}: the method {method} has no {key}; leave it out")
        with open_dict(config):
            config.VICE.pop(name, None)


def _compose(overrides: list[str]) -> tuple[DictConfig, set[str]]:
    named = [match[1] for match in map(_METHOD.fullmatch, overrides) if match]
    known = known_keys(named)
    keys = [text.partition("=")[0].lstrip("+") for text in overrides]
    for key in keys:
        # Hydra's overrides know only what stands in a file.
        if key.startswith("~") and key[1:] in known:
            raise UserError(f"{key[1:]} is missing: must be {known[key[1:]]}; leave {key} out")
    overrides = [each for text in overrides for each in with_known(text, known)]
    files = [text for text in overrides if _FILES.fullmatch(text)]
    values = [text for text in overrides if text not in files]
    composed = _set(_of_files(tuple(files), read_by_hydra()), values)
    if composed is None:
        composed = _hydra(overrides)
    return composed, fill(composed)


def _hydra(overrides: list[str]) -> DictConfig:
    for text in overrides:
        for name in config_names(text):
            check_file(name)
    with _HYDRA, warnings.catch_warnings():
        # Version base: VISSL names no Hydra version; the defaults of 1.1 are right for it.
        warnings.filterwarnings("ignore", message="(?s).*version_base")
        composed: DictConfig = compose_hydra_configuration(overrides)
    return composed


@lru_cache(maxsize=32)
def _of_files(overrides: tuple[str, ...], read: object) -> bytes:
    """Memoization: reading a dozen files and merging them takes longer than setting values.

    Serialized: to read that again takes a tenth of a deep copy.
    """
    composed = _hydra(list(overrides))
    group = node_at(composed, "config")
    if not is_group(group):
        raise UserError(
            f"{named(overrides)}: its config: holds no keys; leave the line out, or write settings "
            "below, indented"
        )
    if "VICE" not in group:
        raise UserError(without_vice(overrides))
    for text in overrides:
        for name in config_names(text):
            check_replaced(name, _alone)
    return pickle.dumps(composed)


def _alone(name: str) -> DictConfig | None:
    """What a config comes to without overrides; None for one that needs others around it."""
    try:
        return _hydra([f"config={name}"])
    except HydraException:
        return None


def _set(files: bytes, overrides: list[str]) -> DictConfig | None:
    """A copy with values set as Hydra sets them; None where it has something to object to."""
    composed: DictConfig = pickle.loads(files)
    try:
        for each in OverridesParser.create().parse_overrides(overrides):
            if each.is_sweep_override() or each.package is not None:
                return None
            key, value = each.key_or_group, each.value()
            if each.is_delete():
                above, _, name = key.rpartition(".")
                if value is not None or OmegaConf.select(composed, key) is None:
                    return None
                with open_dict(composed):
                    del OmegaConf.select(composed, above)[name]
                continue
            there = each.is_add() and not isinstance(value, dict | list)
            if there and OmegaConf.select(composed, key) is not None:
                return None
            force = each.is_add() or each.is_force_add()
            OmegaConf.update(composed, key, value, merge=True, force_add=force)
    except (HydraException, OmegaConfBaseException):
        return None
    return composed


def _resolved(composed: DictConfig, finish: Callable[[Any], None]) -> DictConfig:
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    finish(plain)
    # Escaping: a path that holds ${...} is no interpolation when it is read again.
    change_texts(plain, escape)
    with open_dict(composed):
        _put(composed, plain)
    OmegaConf.set_struct(composed, True)
    return composed


def _put(node: Any, plain: Any) -> None:
    """Makes a node of a configuration hold what a plain one does; what it holds already stays."""
    for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
        child = node._get_node(key)
        if _is_like(child, value):
            _put(child, value)
        elif (
            isinstance(child, Node)
            or type(child._value()) is not type(value)
            or (child._value() != value)
        ):
            node[key] = value


def _is_like(node: Any, plain: Any) -> bool:
    """Whether a node is a group with the same keys, or a list as long."""
    if isinstance(plain, dict):
        return is_group(node) and list(node.keys()) == list(plain)
    itself = isinstance(node, ListConfig) and not (node._is_none() or node._is_interpolation())
    return isinstance(plain, list) and itself and len(node) == len(plain)


def change_texts(node: Any, change: Callable[[str], str]) -> None:
    """Changes every text of nested groups and lists in place."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, str):
            node[key] = change(value)
        elif isinstance(value, dict | list):
            change_texts(value, change)


def _nearest(key: str, name: str, beside: bool) -> str:
    """The question which key is meant, of those beside it first.

    Args:
        key: That there is not.
        name: The config.
        beside: Whether no others count.
    """
    try:
        known = list(_keys(_compose([name])[0]))
    except (HydraException, OmegaConfBaseException):
        return ""
    above, _, last = key.rpartition(".")
    names = [each.removeprefix(f"{above}.") for each in known if each.rpartition(".")[0] == above]
    found = did_you_mean(last, names, before=f"{above}.")
    return found if found or beside else did_you_mean(key, known)


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in map(str, node):
        full = f"{prefix}{name}"
        yield full
        child = node._get_node(name)
        if isinstance(child, DictConfig):
            yield from _keys(child, f"{full}.")
