"""What a hostile case is: something a user does to bad input, and what may come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Expected = Literal["worked", "refused", "either"]
#: A payload that runs leaves this file in the folder of its case.
MARKER = "code_ran"


@dataclass(frozen=True)
class Action:
    """What the user does.

    Attributes:
        run: Does it in this process; None where only the command line will do.
        command: A tool of ``tools/`` and its arguments, for a process of its own.
        names: A refusal must hold one of these: the file or the key that is wrong.
        check: Says of the result of ``run`` what is wrong with it; None is right.
        writes: Files and folders that may change if the action works.
        environment: Variables that differ while it runs.
    """

    run: Callable[[], Any] | None = None
    command: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    check: Callable[[Any], str | None] = lambda result: None
    writes: tuple[Path, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A case; its files are made in a folder of its own.

    Attributes:
        group: What kind of input is bad.
        name: Unique in the group.
        make: Lays the files into a folder and says what is done to them.
        expected: What may come of it.
        process: Whether the tool itself is started.
    """

    group: str
    name: str
    make: Callable[[Path, np.random.Generator], Action]
    expected: Expected = "either"
    process: bool = False


@dataclass(frozen=True)
class Verdict:
    """What came of a case: ``worked`` and ``refused`` are as they should be, all else a finding."""

    kind: str
    detail: str = ""

    @property
    def fine(self) -> bool:
        return self.kind in ("worked", "refused")
