"""Secrets in settings and messages, hidden before they are written anywhere.

A secret is a value under a key that names one (``api_key``, ``TOKEN``), the user and password or a
signature in a URL, an option of a command line that names one, or the value of an environment
variable whose name says that it is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
#: Shorter values of the environment would hide parts of ordinary words.
SHORTEST = 8

_WORDS = (
    "passw(?:or)?d|passwd|passphrase|secret|token|credential|bearer|authorization|jwt"
    "|signature|(?:api|access|private|account|auth|ssh|encryption|signing|session)[-_.]?key"
    "|connection[-_.]?string|cookie"
)
_NAME = re.compile(rf"(?:{_WORDS}|(?:^|[-_.])(?:pwd|pat|sig|auth|key|dsn)$)", re.I)
#: No secrets, under whatever name.
_PLAIN = re.compile(r"|None|null|True|False|[-+]?[\d.]+(?:e[-+]?\d+)?", re.I)
# A name of sixteen characters and more without a password is a token, too.
_USER = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^/\s@:?#'\"]*:[^/\s?#'\"]*|[^/\s@?#'\"]{16,})@", re.I
)
_QUERY = re.compile(
    rf"(?P<name>[?&;][\w.-]*(?:{_WORDS}|\b(?:sig|key|auth|pwd|code)\b)[\w.-]*=)[^&;\s#'\"]+", re.I
)
_OPTION = re.compile(
    rf"(?P<name>(?:^|[\s\"'{{,+.-])[\w.-]*(?:{_WORDS})[\w.-]*[\"']?\s*[=:]\s*[\"']?)"
    r"(?!null\b|None\b|true\b|false\b|[\d.]+\b|\*\*\*)[^\s\"',}&]{4,}",
    re.I,
)
_HEADER = re.compile(r"\b(?P<name>(?:Bearer|Basic)\s+)[A-Za-z0-9+/_.=-]{8,}")


def names_secret(name: str) -> bool:
    """Whether a key or variable says by its name that its value is a secret."""
    return bool(_NAME.search(name))


def redact_text(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A text in which every secret is ``***``.

    Args:
        text: A value, a message or a command line.
        environment: Whose secret variables are hidden wherever their values stand.
    """
    return _hide(text, _secret_values(environment))


def redact(value: Any, environment: Mapping[str, str] = os.environ) -> Any:
    """A copy of nested groups and lists without secrets; everything else is as it was.

    Args:
        value: Dicts (of any class, which becomes a plain dict), lists, tuples and single
            values. The path of something that is there is no secret.
        environment: As in `redact_text`.
    """
    return _redact(value, _secret_values(environment))


def _redact(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _redact_entry(str(key), item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_redact(item, secrets) for item in value]
    if isinstance(value, tuple):
        return tuple(_redact(item, secrets) for item in value)
    if isinstance(value, str) and value and not os.path.exists(value):
        return _hide(value, secrets)
    return value


def _redact_entry(key: str, value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str) and names_secret(key) and not _PLAIN.fullmatch(value):
        return HIDDEN
    return _redact(value, secrets)


def _hide(text: str, secrets: list[str]) -> str:
    for value in secrets:
        text = text.replace(value, HIDDEN)
    text = _USER.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _HEADER.sub(rf"\g<name>{HIDDEN}", text)
    for pattern in (_QUERY, _OPTION):
        text = pattern.sub(rf"\g<name>{HIDDEN}", text)
    return text


def _secret_values(environment: Mapping[str, str]) -> list[str]:
    """Longest first, so that a secret that holds another is hidden whole."""
    secrets = {
        value
        for name, value in environment.items()
        if len(value) >= SHORTEST and names_secret(name) and not os.path.exists(value)
    }
    return sorted(secrets, key=len, reverse=True)
