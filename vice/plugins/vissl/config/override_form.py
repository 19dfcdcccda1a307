"""Looks at overrides as they were typed: which config they name, and whether they can be read."""

from __future__ import annotations

import logging
import os
import re
from functools import cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from vice.errors import UserError
from vice.paths import config_names, experiment_names
from vice.plugins.vissl.config.braces import leaves
from vice.redaction import redact

logger = logging.getLogger(__name__)
#: What stands beside config., and is read.
TOP = frozenset({"config", "node_id", "engine_name", "VERSION"})
_KEY = re.compile(r"[+~]{0,2}\w[\w-]*([./@:]\w[\w-]*)*", re.ASCII)
#: A name that Hydra reads as text without quotes.
_NAME = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_SUFFIX = ".yaml"


def check_form(overrides: list[str]) -> list[str]:
    """Refuses what is no override of one training, and says which of several values counts.

    Args:
        overrides: As they were typed, paths quoted.

    Returns:
        The same, with the name of the config as its file is called.

    Raises:
        UserError: Names the first that cannot be read, has several values, or changes nothing.
    """
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            meant = f"config={text}" if text in experiment_names() else "KEY=VALUE"
            raise UserError(f"{text}: must be {meant}; this command takes overrides only")
    checked = [_checked(text, _read(text)) for text in overrides]
    if not any(map(config_names, checked)):
        raise UserError(no_config())
    values: dict[str, list[str]] = {}
    for text in checked:
        # Groups in braces are merged.
        for key, value in leaves(text) if not text.startswith("~") else ():
            values.setdefault(key, []).append(value)
    for key, given in values.items():
        if len(given) > 1:
            _say_given_twice(key, len(given), redact({key: given[-1]})[key])
    return checked


def no_config(name: object = None) -> str:
    """What is said where no config is named, or one that there is not."""
    wrong = "no config is named" if name is None else f"{name!r} is no config"
    return f"{wrong}; add config=NAME with NAME one of {', '.join(experiment_names())}"


def _read(text: str) -> Override:
    key, _, value = text.partition("=")
    if not _KEY.fullmatch(key):
        raise UserError(
            f"{text}: cannot be read; keys are names with dots between them, as in "
            "config.OPTIMIZER.num_epochs=3"
        )
    try:
        (override,) = OverridesParser.create().parse_overrides([text])
    except HydraException as error:
        raise UserError(
            f"{text}: cannot be read; if {value} is meant as text, write \"{key}='...'\", with "
            "quotes inside quotes"
        ) from error
    if not override.is_sweep_override() and _holds_missing(override.value()):
        raise UserError(f"{text}: ??? stands for a value that is missing; give one")
    if override.is_sweep_override():
        plain = override.is_choice_sweep() and "(" not in value and key.lstrip("+") != "config"
        listed = f", or write a list as {key}=[{value}]" if plain else ""
        raise UserError(f"{text}: a training has one value; start one for each{listed}")
    return override


def _holds_missing(value: Any) -> bool:
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value == "???" or any(map(_holds_missing, within))


def _checked(text: str, override: Override) -> str:
    if isinstance(override.value(), dict):
        key, _, value = text.partition("=")
        text = f"{key}={value.strip()}"
    top = re.split(r"[./@]", override.key_or_group)[0]
    if top == "hydra":
        raise UserError(
            f"{text}: settings of Hydra itself change nothing here; leave it out (a run is written "
            "to config.CHECKPOINT.DIR)"
        )
    if override.key_or_group != "config" or override.package is not None:
        return text
    if override.is_delete():
        raise UserError(f"{text}: nothing can be trained without a config; leave it out")
    name = override.value()
    # The same key with a group in braces sets values.
    if isinstance(name, dict):
        return text
    # Several: Hydra merges those of a list, one after the other.
    names: list[Any] = name if isinstance(name, list) else [name]
    if not names or not all(isinstance(each, str) and each.strip() for each in names):
        raise UserError(no_config(name))
    plain = [os.path.normpath(each.removesuffix(_SUFFIX)).lstrip("/") for each in names]
    if not all(map(_NAME.fullmatch, plain)):
        return text
    return f"config=[{','.join(plain)}]" if isinstance(name, list) else f"config={plain[0]}"


@cache
def _say_given_twice(key: str, times: int, last: str) -> None:
    # Once: a table composes the same overrides for each of its rows.
    logger.warning("%s is given %d times: the last, %s, counts", key, times, last)
