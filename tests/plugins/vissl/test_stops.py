"""Real trainings that are asked to stop; the hostile cases draw moments and signals at random."""

from __future__ import annotations

import os
import signal

import pytest

from tests.helpers.stops import Stop, after, stopped, wrong
from tests.plugins.vissl.conftest import overrides
from vice.runtime.preemption import watch_signals

pytest.importorskip("vissl")


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        (Stop("SIGINT", after(4)), 75),
        (Stop("SIGHUP", after(7)), 75),
        (Stop("SIGTERM", after(4), ranks=2, times=2, pause=2.0), 75),
        (Stop("SIGINT", after(3), times=2), None),
    ],
)
def test_a_training_saves_itself_or_says_that_there_was_nothing_to_save(
    images, tmp_path, stop, status
):
    out = tmp_path / "out"
    outcome = stopped(overrides(images, out), out, stop)
    assert wrong(outcome, out) is None
    assert outcome.status == status or status is None


def test_signals_that_are_ignored_at_the_start_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with watch_signals() as notice:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not notice.signal_number
    finally:
        signal.signal(signal.SIGHUP, before)
