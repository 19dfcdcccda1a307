"""Chooses cases by a seed, judges them, and counts what came of them."""

from __future__ import annotations

import pkgutil
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from importlib import import_module
from itertools import count
from pathlib import Path
from types import ModuleType

import numpy as np

import tests.hostile
from tests.hostile.case import Case, Verdict
from tests.hostile.judge import judge


def _groups() -> dict[ModuleType, float]:
    found = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(tests.hostile.__path__)):
        if name.startswith("test_") or name in ("campaign", "judge"):
            continue
        module = import_module(f"tests.hostile.{name}")
        if hasattr(module, "SHARE"):
            found[module] = float(module.SHARE)
    return found


#: Groups, which are the modules here that have a SHARE, and their shares of all cases.
GROUPS = _groups()


def choose(seed: int, cases: int, only: str | None = None, *, processes: bool = True) -> list[Case]:
    """Cases of all groups or of one: the listed ones first, then drawn ones, without an end."""
    modules = [module for module in GROUPS if only in (None, module.GROUP)]
    total = sum(GROUPS[module] for module in modules)
    chosen: list[Case] = []
    for module in modules:
        wanted = max(1, round(cases * GROUPS[module] / total))
        listed = [case for case in module.FIXED if processes or not case.process]
        if wanted < len(listed):
            order = np.random.default_rng([seed, len(listed)]).permutation(len(listed))
            chosen += [listed[i] for i in sorted(order[:wanted])]
            continue
        extra = (module.drawn(number) for number in count())
        chosen += listed + [next(extra) for _ in range(wanted - len(listed))]
    return chosen


def warm_up() -> None:
    """Imports what cases will need, so that neither time nor memory of an import is theirs."""
    import timm  # noqa: F401
    import torchvision  # noqa: F401

    import vice.plugins.mmseg.evaluate_clusters
    import vice.plugins.mmseg.evaluate_linear
    import vice.plugins.mmseg.finetune
    import vice.plugins.vissl.config.configure  # noqa: F401


def run(
    cases: Iterable[Case],
    seed: int,
    report: Callable[[Case, Verdict], None],
    keep: Path | None = None,
) -> list[tuple[Case, Verdict]]:
    """Judges cases one after the other; folders of findings are kept if there is a place."""
    warm_up()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases):
            place = Path(folder) / str(number)
            verdict = judge(case, seed, place)
            report(case, verdict)
            found.append((case, verdict))
            if keep is not None and not verdict.fine:
                name = f"{case.group}-{case.name}".replace("/", "-").replace(" ", "-")
                shutil.copytree(
                    place, keep / name, symlinks=True, dirs_exist_ok=True, ignore=_pipes
                )
            shutil.rmtree(place, ignore_errors=True)
    return found


def _pipes(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_fifo()]


def table(found: Iterable[tuple[Case, Verdict]]) -> str:
    """Markdown: a line a group with its cases, those that worked or were refused, and findings."""
    counts: dict[str, Counter[str]] = {}
    for case, verdict in found:
        kind = verdict.kind if verdict.fine else "findings"
        counts.setdefault(case.group, Counter()).update(["cases", kind])
    columns = ("cases", "worked", "refused", "findings")
    total = sum(counts.values(), Counter())
    lines = ["| input | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for group, numbers in [*counts.items(), ("all", total)]:
        lines.append(f"| {group} | " + " | ".join(str(numbers[c]) for c in columns) + " |")
    return "\n".join(lines)
