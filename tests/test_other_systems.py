"""Loading, embedding and segmenting where parts of Unix are missing, one at a time and together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import made_once
from tests.helpers.other_systems import SITUATIONS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def endings(run_dir, tmp_path_factory):
    def try_all(folder):
        command = [sys.executable, "-m", "tests.helpers.other_systems", str(run_dir)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        folder.mkdir()
        (folder / "endings.txt").write_text(done.stdout)

    text = (made_once(tmp_path_factory, "other_systems", try_all) / "endings.txt").read_text()
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_missing_is_not_missed(endings, situation):
    assert endings[situation] == "whole"
