"""The table of layouts in docs/scoring.md: each row has its tests, and says what they find."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.described.test_layouts import LAYOUTS, written
from vice.datasets.described.recognize import recognize

HERE = Path(__file__).parent
_FUNCTION = re.compile(r"`(test_\w+)`")


def _rows():
    text = (HERE.parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")
    table = text[text.index("| what people have |") :].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")]
            for line in table.splitlines()[2:]]  # fmt: skip


ROWS = {row[0]: row for row in _rows()}


def _tests(row):
    return [part.strip() for part in row[-1].split(";")]


def test_every_layout_and_no_other_has_a_row():
    functions = {
        name
        for file in HERE.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    named = {test for row in ROWS.values() for test in _tests(row)}
    assert {test for test in named if not test.startswith("`")} == set(LAYOUTS)
    assert {_FUNCTION.fullmatch(test)[1] for test in named if test.startswith("`")} <= functions
    assert {row[1] for row in ROWS.values()} == {"yes", "no"}


@pytest.mark.parametrize("row", [row for row in ROWS.values() if "{stem}" in row[2]],
                         ids=lambda row: row[0])  # fmt: skip
def test_templates_are_those_that_are_found(row, tmp_path):
    found = ""
    for number, name in enumerate(_tests(row)):
        root = tmp_path / str(number)
        written(root, LAYOUTS[name], np.random.default_rng(0))
        for split in recognize(root).description.splits.values():
            found += f"{split.images} {split.labels}\n"
    for template in re.findall(r"`([^`]*{stem}[^`]*)`", row[2]):
        assert template in found, found
