"""The rooms of the package, and which way imports run between them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONTRACT = """[importlinter]
root_package = house
[importlinter:contract:1]
name = downward
type = layers
containers = house
layers =
    upper
    lower
"""


def lint(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-logo", "--no-cache", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_imports_run_downward():
    pytest.importorskip("importlinter")
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


def test_an_import_that_runs_upward_is_found(tmp_path):
    pytest.importorskip("importlinter")
    (tmp_path / "house").mkdir()
    for name, text in (("__init__", ""), ("upper", ""), ("lower", "import house.upper\n")):
        (tmp_path / "house" / f"{name}.py").write_text(text)
    (tmp_path / ".importlinter").write_text(CONTRACT)
    done = lint(tmp_path)
    assert (
        done.returncode != 0 and "house.lower is not allowed to import house.upper" in done.stdout
    )


def test_every_room_stands_in_the_page_that_describes_them():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = [path.parent.name for path in (ROOT / "vice").glob("*/__init__.py")]
    assert len(rooms) >= 10
    assert [room for room in rooms if f"vice/{room}" not in page] == []
