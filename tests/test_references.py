"""Names of the package that its texts send the reader to are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: In single backquotes in Python's texts, in code spans in pages.
NAME = re.compile(r"`(vice(?:\.[A-Za-z_]\w*)+)(?:\(\))?`")
#: Pages that name what has moved.
HISTORY = ("docs/architecture.md", "docs/moved_names.md")


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part) and part not in getattr(found, "__annotations__", {}):
                return False
            found = getattr(found, part, None)
        return True
    return False


def named() -> list[tuple[str, str]]:
    files = [*(ROOT / "vice").rglob("*.py"), *(ROOT / "tools").glob("*.py")]
    files += [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    files_of_a_run = {"vice.json", "vice.safetensors"}
    return sorted(
        {
            (name, str(file.relative_to(ROOT)))
            for file in files
            if str(file.relative_to(ROOT)) not in HISTORY
            for name in NAME.findall(file.read_text())
            if name not in files_of_a_run
        }
    )


def test_every_name_in_a_text_resolves():
    pytest.importorskip("vissl")
    pytest.importorskip("mmseg")
    places = named()
    assert len(places) > 100
    checked = {name: resolves(name) for name in {name for name, _ in places}}
    assert [(name, file) for name, file in places if not checked[name]] == []


def test_a_name_that_is_nowhere_is_found():
    assert not resolves("vice.superpixels.no_such_thing")
    assert not resolves("vice.no_such_room.slic")
    assert resolves("vice.superpixels.slic")
