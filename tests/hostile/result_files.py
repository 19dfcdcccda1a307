"""``results.json`` that somebody has changed, cut off or written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.case import Action, Family
from tests.hostile.settings import _result
from vice.evaluation.compare import make_tables, row_names
from vice.evaluation.comparison_page import to_html, to_markdown
from vice.evaluation.scored_folders import read_results

Rng = np.random.Generator
GROUP = "results"
SHARE = 0.02
_ODD: tuple[Any, ...] = (None, 3, "x", [], {}, True, [{}], -1, 1.5, float("nan"))


def _tables(folders: list[Path], rows: tuple[str, ...] = ()) -> str:
    tables = make_tables(read_results(folders), row_names(rows))
    return to_html(tables) + to_markdown(tables)


def _paths(value: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = value if isinstance(value, dict) else {}
    return [above, *(path for key in inner for path in _paths(inner[key], (*above, key)))]


def _parent(result: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path[:-1]:
        result = result[key]
    return result


#: What a table is made of.
_NEEDED = (
    ("kind",), ("protocol",), ("protocol", "name"), ("protocol", "hash"), ("protocol", "fields"),
    ("dataset",), ("dataset", "name"), ("dataset", "splits"), ("dataset", "images"),
    ("linear",), ("linear", "miou"), ("linear", "accuracy"), ("spec",), ("seed",), ("arguments",),
    ("classes",), ("dataset", "fit_name"), ("dataset", "list_checksums"),
)  # fmt: skip


def _lacks(folder: Path, rng: Rng) -> dict[str, Any] | bytes:
    result = _result("lab", 0)
    path = _NEEDED[int(rng.integers(len(_NEEDED)))]
    del _parent(result, path)[path[-1]]
    return result


def _odd_score(folder: Path, rng: Rng) -> dict[str, Any] | bytes:
    result = _result("lab", 0)
    odd = ("x", [], {}, True, -1, 1.5, 55, float("nan"), float("inf"))[rng.integers(9)]
    result["linear"][("miou", "accuracy")[rng.integers(2)]] = odd
    return result


def _odd_group(folder: Path, rng: Rng) -> dict[str, Any] | bytes:
    result = _result("lab", 0)
    path = (("protocol",), ("dataset",), ("linear",), ("dataset", "splits"))[rng.integers(4)]
    _parent(result, path)[path[-1]] = (None, 3, [], [{}])[rng.integers(4)]
    return result


def _no_json(folder: Path, rng: Rng) -> dict[str, Any] | bytes:
    text = json.dumps(_result("lab", 0)).encode()
    cut = text[: int(rng.integers(1, len(text)))]
    other = (cut, b"", b"[]", b"null", b"\xff" + text, b"[" * 100_000, b"3", text + b"}")
    return other[int(rng.integers(len(other)))]


def _odd(draw: Callable[[Path, Rng], dict[str, Any] | bytes], folder: Path, rng: Rng) -> Action:
    """One odd result among sound ones."""
    names = ["a", "b", "c"]
    for seed, name in enumerate(names):
        (folder / name).mkdir()
        (folder / name / "results.json").write_text(json.dumps(_result("lab", seed)))
    victim = folder / names[int(rng.integers(3))]
    content = draw(folder, rng)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (victim / "results.json").write_bytes(data)
    folders = [folder / name for name in names]
    return Action(run=partial(_tables, folders), names=(str(victim),))


def _any_value(folder: Path, rng: Rng) -> dict[str, Any] | bytes:
    """Any value of any kind at any place: a table, or one line."""
    result = _result("lab", 0)
    paths = [path for path in _paths(result) if path]
    path = paths[int(rng.integers(len(paths)))]
    _parent(result, path)[path[-1]] = _ODD[int(rng.integers(len(_ODD)))]
    return result


def _place(folder: Path, rng: Rng) -> Action:
    """The file itself, or the folder above, in place of a results directory."""
    out = folder / "runs" / "one"
    out.mkdir(parents=True)
    (out / "results.json").write_text(json.dumps(_result("lab", 0)))
    given = (out / "results.json", out.parent)[rng.integers(2)]
    return Action(run=partial(_tables, [given]), names=(f"{out}",))


def _row(folder: Path, rng: Rng) -> Action:
    (folder / "one").mkdir()
    (folder / "one" / "results.json").write_text(json.dumps(_result("lab", 0)))
    text = ("X", "=", "X=", "=lab", "X=nothing", "X=LAB", "X=la")[rng.integers(7)]
    return Action(run=partial(_tables, [folder / "one"], (text,)), names=(text,))


FAMILY = Family(
    GROUP,
    {
        "lacks": ("refused", partial(_odd, _lacks)),
        "odd-score": ("refused", partial(_odd, _odd_score)),
        "odd-group": ("refused", partial(_odd, _odd_group)),
        "no-json": ("refused", partial(_odd, _no_json)),
        "any-value": ("either", partial(_odd, _any_value)),
        "place": ("refused", _place),
        "row": ("refused", _row),
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn
