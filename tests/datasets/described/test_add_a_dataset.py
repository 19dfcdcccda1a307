"""What docs/add_a_dataset.md works through: its folder, what is said of it, its description."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.forked import ROOT
from vice.explore.describe_folder import describe_folder

pytest.importorskip("yaml")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_the_page_says_what_happens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "add_a_dataset.md").read_text(encoding="utf-8")
    make, read = blocks(page, "python")
    exec(make, {})
    data = Path("path/to/data")
    assert blocks(page, "text") == [describe_folder(data, show=6) + "\n"]
    assert (data / "dataset.html").stat().st_size > 10_000
    (changed,) = blocks(page, "yaml")
    (data / "dataset.yaml").write_text(changed)
    exec(read, {})
