"""A training's seconds a step, less the time for which it was stopped."""

from __future__ import annotations

import pytest

from vice.experiments.benchmark.whole_step import seconds_a_step


def test_stopped_time_is_left_out_and_so_is_what_came_before():
    # Steps of 0.5 s; stopped from 1.0 to 5.0, from 7.1 to 9.1, and from 11 on.
    steps = [0.5, 1.0, 5.3, 5.8, 6.3, 6.8, 9.3, 9.8, 10.3, 10.8]
    stopped = [(1.0, 5.0), (7.1, 9.1), (11.0, 12.0)]
    seconds, count = seconds_a_step(steps, stopped)
    # From 5.3 to 10.8, less two seconds.
    assert seconds == pytest.approx(3.5 / 7) and count == 7


def test_stops_before_the_first_counted_step_count_for_nothing():
    steps = [3.5, 4.0, 4.5]
    assert seconds_a_step(steps, [(0.0, 1.0), (2.0, 3.0), (5.0, 6.0)]) == (pytest.approx(0.5), 2)
