"""A training as a process of its own: its messages and its progress."""

from __future__ import annotations

import sys

import pytest

from vice import training
from vice.errors import UserError

pytest.importorskip("vissl")


def test_what_training_refuses_is_one_message(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty") as error:
        training.train("vice/folder", tmp_path / "empty", tmp_path / "run")
    assert "\n" not in str(error.value) and not str(error.value).startswith("error:")


def test_progress_of_a_training_is_passed_on(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(training, "_PROGRESS_SECONDS", 0.0)
    lines = (
        "INFO trainer_main.py: 276: Total 480 iterations for training",
        "INFO log_hooks.py: Rank: 0; [ep: 0] iter: 25; lr: 0.002; loss: 3.85; btime(ms): 726; "
        "eta: 0:05:30; peak_mem(M): -1;",
        "something else",
    )
    script = f"import sys; print({chr(10).join(lines)!r}); sys.stderr.write('oops'); sys.exit(3)"
    with caplog.at_level("INFO", logger="vice.training"):
        assert training._follow([sys.executable, "-c", script], tmp_path) == (3, "oops")
    assert caplog.messages[1:] == ["training: step 25 of 480, loss 3.85, 0:05:30 left"]
