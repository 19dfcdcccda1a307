"""Health records survive kills and resumes; alarms come once, and only when they last."""

from __future__ import annotations

import pytest

from tests.helpers.methods import vice_monitor
from vice.runtime.health_log import HealthLog, read_health
from vice.runtime.run_folder import HEALTH_NAME

GOOD = {"perplexity": 20.0, "loss_over_lnk": 0.8, "regions_per_view": 40.0}


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"perplexity": 1.5}, "collapse"),
        ({"loss_over_lnk": 1.0}, "ln K"),
        ({"regions_per_view": 0.2}, "mutual region"),
    ],
)
def test_alarms(bad, word):
    monitor = vice_monitor(32, patience=3)
    sick = {**GOOD, **bad}
    assert monitor.update(sick) == []
    assert monitor.update(sick) == []
    assert monitor.update(GOOD) == []
    raised = [message for _ in range(6) for message in monitor.update(sick)]
    assert len(raised) == 1
    assert word in raised[0]
    assert "config.VICE" in raised[0]


def test_a_queue_that_takes_in_nothing():
    monitor = vice_monitor(32, patience=3)
    ages = [0.0, 0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    due = [monitor.update({**GOOD, "queue_length": 20.0, "queue_age": age}) for age in ages]
    assert [len(messages) for messages in due] == [0, 0, 0, 0, 0, 1, 0, 0]
    assert "config.VICE.LOSS.queue_length" in due[5][0]


def test_healthy_runs_raise_nothing():
    monitor = vice_monitor(32, patience=1)
    assert monitor.update(GOOD) == []


def test_a_full_disk_costs_one_message_and_no_record(tmp_path, caplog, monkeypatch):
    log = HealthLog(tmp_path)
    log.write({"iteration": 0})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(log.path), "open", full)
        log.write({"iteration": 1})
        log.write({"iteration": 2})
    log.write({"iteration": 3})
    assert [record["iteration"] for record in read_health(tmp_path)] == [0, 1, 2, 3]
    assert caplog.text.count("No space left on device; training goes on") == 1


def test_resume_drops_what_will_be_done_again(tmp_path):
    log = HealthLog(tmp_path)
    for iteration in range(5):
        log.write({"iteration": iteration, "loss": 1.0})
    with (tmp_path / HEALTH_NAME).open("a") as file:
        file.write('{"iteration": 5, "lo')
    assert [record["iteration"] for record in read_health(tmp_path)] == [0, 1, 2, 3, 4]
    log = HealthLog(tmp_path, resume_at=3)
    log.write({"iteration": 3, "loss": 2.0})
    assert [(r["iteration"], r["loss"]) for r in read_health(tmp_path)] == [
        (0, 1.0),
        (1, 1.0),
        (2, 1.0),
        (3, 2.0),
    ]


def test_no_file_no_records(tmp_path):
    assert read_health(tmp_path) == []
