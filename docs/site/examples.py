"""Docstrings for the site: a section ``Example`` is one of ``Examples`` to what renders it."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the sections as a docstring is read."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """A module, class, function or attribute."""
        if obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
