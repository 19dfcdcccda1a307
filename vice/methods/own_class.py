"""Looks at a method of somebody else's before anything is started: can a training be made of it?

What ships passes all of this too (`tests/methods/test_find_method.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import nn

from vice.errors import UserError
from vice.methods.base import Method
from vice.methods.signs import Measure, Sign
from vice.options import options_of

#: Groups of config.VICE that are there whatever the method.
_TAKEN = frozenset({"METHOD", "DATASET", "STANDARDIZE", "SCHEDULE", "HEALTH", "TRACKING"})


def check_class(name: str, method: type[Method]) -> None:
    """Refuses a class that no training can be made of.

    Args:
        name: As it was typed.
        method: The class.

    Raises:
        UserError: Names what is missing, or is something else than a training needs.
    """
    if missing := sorted(method.__abstractmethods__):
        raise UserError(
            f"the method {name!r} lacks {', '.join(missing)}: vice.methods.Method says what is "
            "wanted of them"
        )
    _check_calls(name, method)
    _check_values(name, method)
    for place, group in {"Options": method.Options, **method.sections}.items():
        if not (isinstance(group, type) and is_dataclass(group)):
            raise UserError(
                f"the method {name!r}: {place} is no dataclass; write @dataclass(frozen=True) above"
            )
        known = options_of(group)
        bare = [each.name for each in fields(group) if each.init and each.name not in known]
        if bare:
            raise UserError(
                f"the method {name!r}: {bare[0]} of {place} does not say what it may be; write "
                "option(DEFAULT, RULE, MEANING) of vice.options behind it"
            )
    if "name" in options_of(method.Options):
        raise UserError(f"the method {name!r}: no option may be called name, which is the method's")


def check_made(method: Method, head: Any, loss: Any) -> None:
    """Refuses parts that no training can be made of.

    Args:
        method: The method.
        head: What its `Method.head` has returned.
        loss: What its `Method.loss` has returned.

    Raises:
        UserError: Names the part.
    """
    name = type(method).__qualname__
    for part, made in (("head", head), ("loss", loss)):
        if not isinstance(made, nn.Module):
            raise UserError(f"{name}.{part}() returned {_kind(made)}, but must return a nn.Module")
    later = method.trained_later()
    if not isinstance(later, Mapping):
        raise UserError(
            f"{name}.trained_later() returned {_kind(later)}, but must return a mapping"
        )
    known = dict(head.named_parameters())
    unknown = [key for key in later if key not in known]
    if unknown:
        raise UserError(
            f"{name}.trained_later() names {unknown[0]!r}, but the head has "
            f"{', '.join(known) or 'no parameters'}"
        )
    signs = method.signs()
    if not _all_are(signs, Sign):
        raise UserError(f"{name}.signs() returned {_kind(signs)}, but must return a list of Sign")


def _check_calls(name: str, method: type[Method]) -> None:
    for each, wanted in inspect.getmembers(Method, inspect.isfunction):
        own = inspect.getattr_static(method, each)
        if own is wanted or each.startswith("_"):
            continue
        names = list(inspect.signature(wanted).parameters)
        shown = f"{each}({', '.join(names)})"
        if not (callable(own) or hasattr(own, "__get__")):
            raise UserError(f"the method {name!r}: {each} is {_kind(own)}, but must be {shown}")
        called = own.__func__ if isinstance(own, staticmethod | classmethod) else own
        # Binding: what else can be called, such as a class, says itself what it is given.
        if not inspect.isfunction(called):
            continue
        names = names[1:] if isinstance(own, staticmethod) else names
        try:
            inspect.signature(called).bind(*names)
        except TypeError as error:
            raise UserError(f"the method {name!r}: {each} is called as {shown}: {error}") from error


def _check_values(name: str, method: type[Method]) -> None:
    if not _all_are(method.measures, Measure):
        raise UserError(
            f"the method {name!r}: measures are {method.measures!r}, but must be a list of Measure"
        )
    for place, kind, of in (("outputs", int, "channels"), ("sections", object, "dataclasses")):
        value: Any = getattr(method, place)
        right = isinstance(value, Mapping) and all(
            isinstance(key, str) and isinstance(each, kind) for key, each in value.items()
        )
        if not right:
            raise UserError(
                f"the method {name!r}: {place} are {value!r}, but must map names to {of}"
            )
    if clash := {*method.sections} & _TAKEN:
        raise UserError(
            f"the method {name!r}: sections has {min(clash)}, which every training has; take "
            "another name"
        )


def _all_are(values: Any, kind: type) -> bool:
    listed = isinstance(values, Iterable) and not isinstance(values, str | Mapping)
    return listed and all(isinstance(each, kind) for each in values)


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
