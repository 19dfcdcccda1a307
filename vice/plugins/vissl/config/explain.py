"""What is wrong with overrides, in words with a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from omegaconf.errors import InterpolationResolutionError

from vice.nearest import did_you_mean
from vice.paths import config_names, experiment_names
from vice.plugins.vissl.config.override_form import no_config


def named(overrides: Iterable[str]) -> str:
    """The config that is named, as it is typed."""
    return next(filter(config_names, overrides), "config=NAME")


def without_vice(overrides: Iterable[str]) -> str:
    """What is said of a config that is none of ViCE's."""
    return (
        f"{named(overrides)} is not a ViCE config: it has no config.VICE; begin its defaults list "
        "with one that has, such as '- /config/vice/folder', and end it with '- _self_'; or choose "
        f"one of {', '.join(experiment_names())}"
    )


def explain(
    error: Exception, overrides: list[str], nearest: Callable[[str, str, bool], str]
) -> str:
    """What Hydra or OmegaConf objects to, in one message with a remedy.

    Args:
        error: Theirs.
        overrides: As they were typed.
        nearest: Of a key that there is not, the config, and whether to look into the key's group
            alone, what to add: the nearest key.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = ". ".join(line for line in lines if not line.startswith("Available options"))
    name = next(filter(config_names, overrides), None)
    missing = re.search(r"Could not (?:find|load) '(config[^']*)'", text)
    if name and missing and missing[1].removeprefix("config/") not in config_names(name):
        # In a file a name without a slash in front starts from the folder of that file.
        slash = "" if any(re.match(r"\+*config/", text) for text in overrides) else "/"
        known = [f"{slash}config/{each}" for each in experiment_names()]
        near = did_you_mean(missing[1], known, "see the defaults of the file")
        return f"{name}: there is no config file {missing[1]}.yaml, which is asked for{near}"
    if name is None or missing:
        return no_config(missing[1].removeprefix("config/") if missing else None)
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        key = unknown.group(1)
        new = re.search(r"full_key: (.+)\.(\w+)$", str(error.__cause__), re.M)
        # A key of a group in braces.
        inner = new and f"{new[1]}.{new[2]}"
        if new and inner and new[1] == key and not nearest(inner, name, True):
            return f"{key} has no key {new[2]!r} yet: add it with +{inner}=VALUE"
        if inner and inner.startswith(f"{key}."):
            key = inner
        return f"config key {key!r} does not exist{nearest(key, name, False)}"
    gone = re.search(r"Could not delete from config\. '(.+)' does not exist", text)
    if gone:
        return f"~{gone[1]}: there is no such key{nearest(gone[1], name, False)}"
    there = re.search(r"Could not append to config\. An item is already at '([^']+)'", text)
    if there:
        return f"+{there[1]}: is there already; write it without +"
    merged = re.fullmatch(r"Error merging override (.+)", text, re.S)
    if merged:
        # OmegaConf merges groups with groups, and lists with lists.
        kind = "a list" if "object_type=list" in str(error.__cause__) else "a group of keys"
        return f"{merged[1].lstrip('+')}: must be {kind}"
    looked_up = re.search(r"Interpolation key '(.+)' not found", text)
    asking = re.search(r"full_key: (\S+)", str(error))
    if looked_up and asking:
        key = looked_up[1]
        return f"{asking[1]}: there is no {key} that it could take{nearest(key, name, False)}"
    said = [override for override in overrides if "${" in override]
    if said and isinstance(error, InterpolationResolutionError):
        return f"{text}; check the ${{...}} of {' '.join(said)}"
    return text or f"{named(overrides)}: what begins with ${{ somewhere is not closed, or is no key"
