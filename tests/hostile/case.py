"""What a hostile case is: something a user does to bad input, and what may come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Expected = Literal["worked", "refused", "either"]
Make = Callable[[Path, np.random.Generator], "Action"]
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
    make: Make
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


@dataclass(frozen=True)
class Family:
    """Generators of one class of input; each draws as many different cases as are asked for.

    Attributes:
        group: What kind of input is bad.
        generators: Name to what may come of its cases and how one is made.
    """

    group: str
    generators: Mapping[str, tuple[Expected, Make]]

    def listed(self) -> list[Case]:
        """One case of each generator."""
        return [self._case(number) for number in range(len(self.generators))]

    def drawn(self, number: int) -> Case:
        """A further case of each generator in turn; what it draws differs with the name."""
        return self._case(number + len(self.generators))

    def _case(self, number: int) -> Case:
        turn, place = divmod(number, len(self.generators))
        name, (expected, make) = list(self.generators.items())[place]
        return Case(self.group, f"{name}/{turn}", make, expected)
