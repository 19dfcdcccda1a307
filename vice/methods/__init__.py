"""Ways of training an embedder, by name."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Mapping
from typing import Any

from vice.errors import UserError, brief
from vice.methods.base import Method
from vice.methods.batch import Batch, Unusable
from vice.methods.context import Context, Source, Stopped
from vice.methods.iic import IIC
from vice.methods.maskcontrast import MaskContrast
from vice.methods.mdc import MDC
from vice.methods.own_class import check_class, check_made
from vice.methods.picie import PiCIE
from vice.methods.signs import Measure, Sign
from vice.methods.stego import STEGO
from vice.methods.vice_swav import ViceSwAV
from vice.nearest import did_you_mean
from vice.options import frozen, make

__all__ = [
    "DEFAULT",
    "METHODS",
    "NAMES",
    "Batch",
    "Context",
    "Measure",
    "Method",
    "Sign",
    "Source",
    "Stopped",
    "Unusable",
    "build_method",
    "check_made",
    "find_method",
]

METHODS: dict[str, type[Method]] = {
    "vice": ViceSwAV,
    "picie": PiCIE,
    "mdc": MDC,
    "iic": IIC,
    "maskcontrast": MaskContrast,
    "stego": STEGO,
}
#: What a name may be, in words.
NAMES = f"one of {', '.join(METHODS)}, or MODULE:CLASS"
#: What a configuration that names none is trained with.
DEFAULT = "vice"


def find_method(name: str) -> type[Method]:
    """The method of a name, or a class of somebody else's.

    Args:
        name: A key of ``METHODS``, or ``MODULE:CLASS``, which is imported: it may come from a
            person's command, never from a file.

    Raises:
        UserError: There is no such method, or no training can be made of the class.

    Example:
        >>> from vice.methods import find_method
        >>> find_method("vice").__name__
        'ViceSwAV'
        >>> find_method("vice.methods:ViceSwAV") is find_method("vice")
        True
    """
    if name in METHODS:
        return METHODS[name]
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        near = did_you_mean(name, METHODS, f"the name must be {NAMES}")
        raise UserError(f"there is no method {name!r}{near}")
    try:
        method_class = getattr(importlib.import_module(module), attribute)
    # Catch-all: the module is somebody's own, and runs as it is imported.
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {brief(error)}"
        if not isinstance(error, ImportError | AttributeError):
            what += f"; {last.filename}, line {last.lineno}"
        raise UserError(f"the method {name!r} cannot be imported ({what})") from error
    if not (isinstance(method_class, type) and issubclass(method_class, Method)):
        raise UserError(f"{name!r} is no vice.methods.Method; the name must be {NAMES}")
    check_class(name, method_class)
    return method_class


def build_method(settings: Mapping[str, Any]) -> Method:
    """The method that a training is configured with.

    Args:
        settings: Groups of options by name, checked; ``METHOD`` holds the method's ``name`` and its
            own options.
    """
    options = dict(settings["METHOD"])
    method = find_method(options.pop("name"))
    groups = {
        name: frozen(group) if isinstance(group, Mapping) else group
        for name, group in settings.items()
    }
    return method(make(method.Options, options), groups)
