from __future__ import annotations

import logging
import time

import numpy as np
import pytest

from vice.runtime import step_meter as metering
from vice.runtime.step_meter import StepMeter


def test_each_step_has_its_own_time_and_peak(caplog):
    meter = StepMeter()
    with caplog.at_level(logging.INFO), meter.step("big"):
        block = np.ones(40 * 2**20, np.uint8)
        time.sleep(0.05)
    del block
    with pytest.raises(ZeroDivisionError), meter.step("broken"):
        _ = 1 / 0
    assert list(meter.steps) == ["big", "broken"]
    assert meter.steps["big"]["seconds"] >= 0.05 > meter.steps["broken"]["seconds"]
    assert meter.steps["big"]["peak_memory_mib"] >= 40
    assert "big: seconds" in caplog.text


def test_the_peak_starts_afresh_where_the_system_allows_it():
    metering._forget_peak()
    low = metering._peak_bytes()
    block = np.ones(200 * 2**20, np.uint8)
    high = metering._peak_bytes()
    assert high - low > 150 * 2**20
    del block
    metering._forget_peak()
    assert metering._peak_bytes() <= high
