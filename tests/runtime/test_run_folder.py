"""Each name in a run folder stands once."""

from __future__ import annotations

import ast
from pathlib import Path

import vice
from vice.runtime import run_folder

PACKAGE = Path(vice.__file__).parent
#: Where the names of states stand, which are VISSL's.
STATES = PACKAGE / "models" / "training_state.py"


def _texts(file):
    tree = ast.parse(file.read_text())
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def test_no_name_is_written_a_second_time():
    names = {getattr(run_folder, name) for name in vars(run_folder) if name.endswith("_NAME")}
    assert len(names) > 10
    for file in PACKAGE.rglob("*.py"):
        if file != Path(run_folder.__file__):
            assert not names & {text for text in _texts(file) if "." in text}, file


def test_no_name_of_a_state_is_written_a_second_time():
    parts = ("model_iteration", "model_final", "model_phase", "model_*", "*.torch", "checkpoint.t")
    assert any(part in text for text in _texts(STATES) for part in parts)
    for file in PACKAGE.rglob("*.py"):
        if file != STATES:
            assert not [text for text in _texts(file) if any(part in text for part in parts)], file


def test_logs_of_nodes():
    assert [run_folder.log_name(node) for node in (0, 1, 12)] == [
        "log.txt",
        "log_node1.txt",
        "log_node12.txt",
    ]
