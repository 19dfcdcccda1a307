"""SIGKILL at random moments; ``tools/kill_runs.py`` does it more often."""

from __future__ import annotations

import pytest

from tests.kills import differences, kill_and_resume, undisturbed
from tests.plugins.vissl.conftest import overrides

pytest.importorskip("vissl")


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_killed_run_ends_with_the_same_bits(images, tmp_path, ranks):
    alone, out = tmp_path / "alone", tmp_path / "out"
    undisturbed(overrides(images, alone), alone, ranks)
    kills = list(kill_and_resume(overrides(images, out), out, ranks, 3, seed=ranks))
    assert kills
    assert differences(alone, out) == []
