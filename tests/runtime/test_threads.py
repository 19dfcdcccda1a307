"""Cores that a process may use, which are not those of the machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers.processes import ROOT
from vice.runtime.threads import WAY, cores, give_way


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_cores_are_those_that_a_process_is_bound_to():
    bound = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    ask = f"{bound}; from vice.runtime.threads import cores; print(cores())"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "1\n", done.stderr
    assert cores() == len(os.sched_getaffinity(0))


def test_without_affinity_they_are_the_machines(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


@pytest.mark.skipif(not hasattr(os, "nice"), reason="no niceness here")
def test_giving_way_is_relative_and_that_of_one_process():
    before = os.nice(0)
    ask = "from vice.runtime.threads import give_way; give_way(); import os; print(os.nice(0))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == f"{min(before + WAY, 19)}\n", done.stderr
    assert os.nice(0) == before


def test_where_there_is_no_niceness_nobody_gives_way(monkeypatch):
    monkeypatch.delattr(os, "nice", raising=False)
    give_way()
