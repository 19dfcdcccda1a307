"""What control groups leave a process of the cores' time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import ROOT
from vice.runtime import threads
from vice.runtime.cpu_quota import cpu_quota

#: Files below the root, the process's groups, and cores' worth of time.
LAYOUTS = {
    "a container's own namespace": ({"cpu.max": "250000 100000"}, "0::/", 2.5),
    "no limit": ({"cpu.max": "max 100000"}, "0::/", None),
    "a service": ({"system/one/cpu.max": "50000 100000"}, "0::/system/one", 0.5),
    "a pod's, which is smaller": (
        {"pods/cpu.max": "200000 100000", "pods/one/cpu.max": "800000 100000"}, "0::/pods/one", 2,
    ),
    "a path that is the host's": ({"cpu.max": "300000 100000"}, "0::/docker/4f", 3),
    "a group beside the root of its namespace": ({"cpu.max": "300000 100000"}, "0::/../other", 3),
    "another period": ({"cpu.max": "30000 20000"}, "0::/", 1.5),
    "the first version": (
        {"cpu/job/cpu.cfs_quota_us": "400000", "cpu/job/cpu.cfs_period_us": "100000"},
        "9:name=systemd:/\n1:cpu:/job\n0::/", 4,
    ),
    "its controllers mounted together": (
        {"cpu,cpuacct/cpu.cfs_quota_us": "150000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        "4:cpu,cpuacct:/docker/4f", 1.5,
    ),
    "no limit there": (
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "1:cpu:/", None,
    ),
    "both versions": (
        {
            "unified/a/cpu.max": "700000 100000",
            "cpu/a/cpu.cfs_quota_us": "600000", "cpu/a/cpu.cfs_period_us": "100000",
        },
        "1:cpu:/a\n0::/a", 6,
    ),
    "cpuset is not cpu": ({"cpuset/cpu.cfs_quota_us": "1"}, "3:cpuset:/", None),
    "half a file": ({"cpu.max": "100000"}, "0::/", None),
    "no number": ({"cpu.max": "many 100000"}, "0::/", None),
    "a period of nothing": ({"cpu.max": "100000 0"}, "0::/", None),
    "nothing at all": ({}, "", None),
    "lines of another kind": ({}, "what\n::\n0:", None),
}  # fmt: skip
#: The first version's controller of this machine.
HERE = Path("/sys/fs/cgroup/cpu")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_smallest_limit_counts(tmp_path, layout):
    files, groups, expected = LAYOUTS[layout]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    own = tmp_path / "own"
    own.write_text(f"{groups}\n")
    assert cpu_quota(tmp_path, own) == expected


def test_without_control_groups_there_is_none(tmp_path):
    assert cpu_quota(tmp_path, tmp_path / "own") is None
    (tmp_path / "own").write_bytes(b"0::/\xff")
    assert cpu_quota(tmp_path, tmp_path / "own") is None


@pytest.mark.parametrize(
    ("quota", "expected"), [(None, 8), (0.5, 1), (2.5, 3), (3.5, 4), (64.0, 8)]
)
def test_threads_are_as_many_as_there_is_time_for(monkeypatch, quota, expected):
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    monkeypatch.setattr(threads, "_bound", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    threads.keep_to_quota()
    threads.share_cores(2)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads.cores() == expected
    threads.keep_to_quota()
    assert os.environ.get("OMP_NUM_THREADS") == (str(expected) if expected < 4 else None)
    threads.share_cores(2)
    assert os.environ["OMP_NUM_THREADS"] == str(max(expected // 2, 1))


def test_a_real_limit_is_kept_to(tmp_path):
    group = HERE / f"vice{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of the first version can be made here: {error.strerror}")
    try:
        (group / "cpu.cfs_quota_us").write_text("50000")
        code = tmp_path / "ask.py"
        code.write_text(
            "import sys\nfrom vice.cli import run\nfrom vice.runtime import threads\n"
            "threads._bound = lambda: 8\n"
            "def main():\n    import torch\n    sys.stdout.write(str(torch.get_num_threads()))\n"
            "run(main)\n"
        )
        join = f"echo $$ > {group}/cgroup.procs && exec {sys.executable} {code}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.pop("OMP_NUM_THREADS", None)
        done = subprocess.run(["sh", "-c", join], env=environment, capture_output=True, text=True)
        assert done.stdout == "1", done.stderr
    finally:
        group.rmdir()
