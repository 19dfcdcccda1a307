"""Health records survive kills and resumes; alarms come once, and only when they last."""

from __future__ import annotations

import pytest

from vice.health import HEALTH_NAME, HealthLog, HealthMonitor, read_health

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
    monitor = HealthMonitor(32, patience=3)
    sick = {**GOOD, **bad}
    assert monitor.update(sick) == []
    assert monitor.update(sick) == []
    assert monitor.update(GOOD) == []
    raised = [message for _ in range(6) for message in monitor.update(sick)]
    assert len(raised) == 1
    assert word in raised[0]
    assert "config.VICE" in raised[0]


def test_healthy_runs_raise_nothing():
    monitor = HealthMonitor(32, patience=1)
    assert monitor.update(GOOD) == []


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
