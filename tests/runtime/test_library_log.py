from __future__ import annotations

import logging
import warnings

import pytest

from vice.runtime.library_log import LIBRARIES_NAME, library_log, quiet_libraries


@pytest.fixture
def terminal(monkeypatch):
    """What reaches the terminal, a line each."""
    lines = []

    class Terminal(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    monkeypatch.setattr(logging.root, "handlers", [Terminal()])
    return lines


def test_the_terminal_is_left_to_vice_and_to_errors(terminal, tmp_path):
    shown = list(warnings.filters), warnings.showwarning
    with quiet_libraries(tmp_path / "out"):
        assert library_log() is not None
        logging.getLogger("vice.models.load").warning("a warning of ViCE")
        logging.getLogger("some.library").warning("deprecated")
        logging.getLogger().warning("a framework that uses the root")
        logging.getLogger("some.library").error("broken")
        said = "a slow path"
        warnings.warn(said, UserWarning, stacklevel=1)
    assert terminal == ["a warning of ViCE", "broken"]
    text = (tmp_path / "out" / LIBRARIES_NAME).read_text()
    for said in ("deprecated", "a framework that", "broken", "a slow path"):
        assert text.count(said) == 1
    assert "of ViCE" not in text
    assert library_log() is None and (list(warnings.filters), warnings.showwarning) == shown
    logging.getLogger("some.library").warning("as ever")
    assert terminal[-1] == "as ever"


def test_where_libraries_say_nothing_there_is_no_file(terminal, tmp_path):
    with pytest.raises(ValueError, match="a bug"), quiet_libraries(tmp_path / "out"):
        logging.getLogger("vice").warning("mine")
        raise ValueError("a bug")
    assert terminal == ["mine"] and not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_ends_nothing(terminal, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    with quiet_libraries(tmp_path / "out"):
        logging.getLogger("some.library").warning("deprecated")
    assert terminal == []
