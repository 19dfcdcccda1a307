"""SIGKILL at random moments; ``tests/campaigns/kill_runs.py`` does it more often."""

from __future__ import annotations

import pytest

from tests.helpers.kills import ForkedRun, differences, kill_and_resume, undisturbed
from tests.plugins.vissl.conftest import EPOCHS, overrides

pytest.importorskip("vissl")


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_killed_run_ends_with_the_same_bits(images, request, tmp_path, ranks):
    out = tmp_path / "out"
    arguments = overrides(images, out)
    kills = list(kill_and_resume(arguments, out, ranks, 3, ranks, EPOCHS, ForkedRun))
    if ranks == 2:
        alone = request.getfixturevalue("alone")
    else:
        alone = tmp_path / "alone"
        undisturbed(overrides(images, alone), alone, ranks, EPOCHS)
    assert kills
    assert differences(alone, out) == []
