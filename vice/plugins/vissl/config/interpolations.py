"""What a configuration may look up: its own keys, and one environment variable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vice.errors import UserError

#: Environment variables that configurations may read: where data lies.
READABLE = ("VICE_DATA",)
_ALLOWED = re.compile(rf"\$\{{oc\.env:\s*({'|'.join(READABLE)})\s*[,}}]")


def check_interpolations(composed: DictConfig) -> None:
    """Makes sure that nothing is looked up whose value has no place in a file of the run.

    The resolved configuration is written to ``train_config.yaml``, to the log and into the states.

    Args:
        composed: Before it is resolved.

    Raises:
        UserError: ``${oc.env:NAME}`` of a variable that is not in ``READABLE``, or a resolver of
            another kind; names the key.
    """
    plain = OmegaConf.to_container(composed, resolve=False)
    for key, text in _texts(plain):
        for resolver in _resolvers(text):
            if not _ALLOWED.match(resolver):
                raise UserError(
                    f"{key}={text}: what this looks up would be written into the run folder; write "
                    "what is meant (of the environment only "
                    f"{', '.join(READABLE)} is read)"
                )


def _resolvers(text: str) -> Iterator[str]:
    """Each ``${...:...}`` of a text, from its beginning on; only resolvers have a colon inside."""
    begun: list[int] = []
    for position, letter in enumerate(text):
        if text.startswith("${", position) and not _is_escaped(text, position):
            begun.append(position)
        elif letter == "}" and begun:
            begun.pop()
        elif letter == ":" and begun:
            yield text[begun[-1] :]


def _is_escaped(text: str, position: int) -> bool:
    """Whether an odd number of backslashes stands before a place: then it is plain text."""
    before = text[:position]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _texts(value, f"{key}.{name}".lstrip("."))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _texts(value, f"{key}[{number}]")
    elif isinstance(node, str):
        yield key, node
