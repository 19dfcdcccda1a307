"""Which of many cases every run of the tests has, and which ``--slow`` adds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def variations(cases: Iterable[Any], every: int) -> list[Any]:
    """Cases of which every n-th runs always; the others vary what those show, and are slow.

    Args:
        cases: Values of one argument of a test, or tuples of those of several.
        every: Of a product, one that has no divisor in common with the number of values of an
            argument, so that all of its values stay.
    """
    values = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        pytest.param(*case, marks=[pytest.mark.slow] if place % every else [])
        for place, case in enumerate(values)
    ]
