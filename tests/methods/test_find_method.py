"""Methods of one's own, by name; what is wrong with their files is said in a line."""

from __future__ import annotations

import sys

import pytest

from vice.errors import UserError
from vice.methods import find_method

FILES = {
    'raise ValueError("boom")': r"ValueError: boom; .*faulty\.py, line 1",
    "def broken(:": r"SyntaxError: .*; .*line",
    "1 / 0": r"ZeroDivisionError: division by zero; .*faulty\.py, line 1",
    "import no_such_package_anywhere": "ModuleNotFoundError: No module named",
    "x = 1": r"AttributeError: module 'faulty' has no attribute 'Mine'",
}


@pytest.mark.parametrize("text", FILES)
def test_a_file_that_cannot_be_imported(text, tmp_path, monkeypatch):
    (tmp_path / "faulty.py").write_text(f"{text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faulty", raising=False)
    said = f"'faulty:Mine' cannot be imported .{FILES[text]}"
    with pytest.raises(UserError, match=said) as error:
        find_method("faulty:Mine")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [":SimCLR", "simclr:", ":", "", "vise"])
def test_a_name_that_lacks_a_part(name):
    with pytest.raises(UserError, match=f"there is no method {name!r}"):
        find_method(name)
