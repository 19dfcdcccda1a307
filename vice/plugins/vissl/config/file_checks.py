"""Settings of config files that would not count: where they land, what replaces them, ``???``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from vice.errors import UserError
from vice.plugins.vissl.config.config_files import BYTE_ORDER_MARK, read_with

#: What makes the settings of a file those of the whole configuration; its first line.
_PACKAGE = re.compile(r"#\s*@package\s+_global_\s*$")


def check_file(name: str) -> None:
    """Makes sure that the settings of a config file are those of the whole configuration.

    Those of the files in its defaults list, and in theirs, too.

    Args:
        name: As in ``config=NAME``.

    Raises:
        UserError: Hydra would put the settings of one elsewhere, or it is no text in UTF-8.
    """
    for index, file in enumerate(read_with(name)):
        if index == 0 or not (file.says_package or _lands(file.content, file.package)):
            _check_first_line(file.path, file.text)


def check_replaced(name: str, compose: Callable[[str], DictConfig | None]) -> None:
    """Makes sure that no config file has settings that its own defaults list replaces.

    Those of the files in its defaults list, and in theirs, too: by what stands after ``_self_``.

    Args:
        name: As in ``config=NAME``.
        compose: To all settings of the config of such a name, not resolved; None if it is none.

    Raises:
        UserError: Names the file and the first of its settings without an effect.
    """
    for file in read_with(name):
        entries = file.content.get("defaults")
        early = isinstance(entries, list) and "_self_" in entries[:-1]
        found = compose(file.config) if early and file.config else None
        if found is None:
            continue
        # OmegaConf's YAML: it reads 1e-3 as a number, PyYAML as a text.
        own: Any = OmegaConf.to_container(OmegaConf.load(file.path), resolve=False)
        settings = {key: own[key] for key in own if key not in ("defaults", "hydra")}
        keys = list(_differing(settings, OmegaConf.to_container(found, resolve=False), ""))
        if keys:
            more = f" and {len(keys) - 1} more" if keys[1:] else ""
            raise UserError(
                f"{file.path}: {keys[0]}{more}: what its defaults list names after _self_ sets "
                "another value; put _self_ last"
            )


def left_missing(
    names: Sequence[str], compose: Callable[[str], DictConfig | None]
) -> list[tuple[str, str, Any]]:
    """Keys that a config file says are missing (``???``), and what it builds on has a value for.

    OmegaConf takes that value: whoever writes ``???`` wants another one from somewhere.

    Args:
        names: As in ``config=NAME``.
        compose: As of `check_replaced`.

    Returns:
        Of each that no other file gives the same value the file, its dotted key, and the value.
    """
    left = []
    files = {file.path: file for name in names for file in read_with(name)}
    for file in files.values():
        blank = (key for key, value in by_key(file.content) if value == MISSING)
        keys = [*blank]
        found = compose(file.config) if keys and file.config else None
        if found is not None:
            values = dict(by_key(OmegaConf.to_container(found, resolve=False)))
            below = {each.path for each in read_with(file.config)}
            others = [dict(by_key(files[path].content)) for path in files.keys() - below]
            left += [
                (file.path, key, values[key])
                for key in keys
                if values.get(key, MISSING) != MISSING
                and not any(key in other and other[key] == values[key] for other in others)
            ]
    return left


def by_key(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested groups and lists, and of all that they hold."""
    if key:
        yield key, node
    if isinstance(node, dict):
        for name, each in node.items():
            yield from by_key(each, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for number, each in enumerate(node):
            yield from by_key(each, f"{key}[{number}]")


def _differing(own: Any, found: Any, key: str) -> Iterator[str]:
    """Dotted keys of nested groups whose values are not those of others; of others alone none."""
    if not (isinstance(own, dict) and isinstance(found, dict)):
        same = own in (found, MISSING)
        # Not a number: it is no number that equals itself.
        if not same and not (own != own and found != found):
            yield key
        return
    for name, value in own.items():
        inner = f"{key}.{name}" if key else str(name)
        yield from _differing(value, found[name], inner) if name in found else (inner,)


def _check_first_line(path: str, text: str) -> None:
    if text.startswith(BYTE_ORDER_MARK):
        raise UserError(f"{path}: begins with a byte order mark: save it as UTF-8 without one")
    if not _PACKAGE.match(text.partition("\n")[0]):
        raise UserError(
            f"{path}: its settings would land elsewhere than in the configuration; write "
            "'# @package _global_' as its first line"
        )


def _lands(content: dict[Any, Any], package: str) -> bool:
    """Whether settings that land in a package are where they are looked for."""
    settings = {*content} - {"defaults"}
    return not settings or not package or (package == "config" and "config" not in settings)
