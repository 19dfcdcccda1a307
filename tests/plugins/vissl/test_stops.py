"""Real trainings that are asked to stop; the hostile cases draw moments and signals at random."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from tests.plugins.vissl.conftest import REPO, overrides
from tests.stops import Stop, after, at_file, length, stopped, wrong
from tests.terminal import at_a_terminal
from vice.preemption import watch_signals

pytest.importorskip("vissl")


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        (Stop("SIGINT", after(4)), 75),
        (Stop("SIGHUP", after(7), ranks=2), 75),
        (Stop("SIGQUIT", at_file("architecture.json")), None),
        (Stop("SIGINT", after(3), times=2), None),
        (Stop("SIGINT", at_file("model_final*")), 0),
    ],
)
def test_a_training_saves_itself_or_says_that_there_was_nothing_to_save(
    images, tmp_path, stop, status
):
    out = tmp_path / "out"
    outcome = stopped(overrides(images, out), out, stop)
    assert wrong(outcome, out) is None
    assert outcome.status == status or status is None


def test_nohup_keeps_a_training_from_a_lost_terminal(images, tmp_path):
    out = tmp_path / "out"
    command = [REPO / "tools" / "run_distributed.py", *overrides(images, out), *length(1)]
    process = at_a_terminal(["nohup", sys.executable, *command], cwd=tmp_path)
    while process.poll() is None and not after(2)(out):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGHUP)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0 and said.splitlines()[-1].startswith("trained: ")


def test_signals_that_are_ignored_at_the_start_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with watch_signals() as notice:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not notice.signal_number
    finally:
        signal.signal(signal.SIGHUP, before)
