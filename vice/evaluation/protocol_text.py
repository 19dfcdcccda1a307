"""Fields of a protocol as they are typed on a command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from vice.errors import UserError
from vice.evaluation.protocols import Protocol
from vice.nearest import did_you_mean


def parse_changes(texts: Iterable[str]) -> dict[str, Any]:
    """Fields of a protocol from a command line.

    Args:
        texts: ``field=value``; several values of one field with commas (``size=2048,512``).

    Returns:
        What `get_protocol` takes as changes.

    Raises:
        UserError: A text without ``=``, no such field, or a field that is there twice.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(Protocol)}
    changes = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{text!r} is not FIELD=VALUE, for example upsample=classes")
        parts = [_literal(part) for part in value.split(",") if part]
        if name not in defaults or name in ("name", "dataset"):
            known = sorted(set(defaults) - {"name", "dataset"})
            near = did_you_mean(name, known, f"choose one of {', '.join(known)}")
            raise UserError(f"protocol field {name!r} is unknown{near}")
        if name in changes:
            raise UserError(f"{text}: {name} is given twice; leave one of them out")
        many = isinstance(defaults.get(name), tuple)
        changes[name] = tuple(parts) if many else _literal(value)
    return changes


def _literal(text: str) -> Any:
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except json.JSONDecodeError:
        return text
