"""Training on a real SLURM: two nodes, submitted, preempted, queued again, finished."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests import slurm
from tests.plugins.vissl.conftest import REPO, overrides, run_tool
from vice.checkpoint import load_checkpoint
from vice.health import read_health

pytest.importorskip("vissl")

LONGER = (
    "config.VICE.DATASET.min_images_per_epoch=12",
    "config.OPTIMIZER.num_epochs=10",
    "config.VICE.SCHEDULE.warmup_epochs=0.5",
    "config.DATA.NUM_DATALOADER_WORKERS=0",
)
TWO_NODES = (
    "config.DISTRIBUTED.NUM_NODES=2",
    "config.DISTRIBUTED.NUM_PROC_PER_NODE=1",
    "config.SLURM.USE_SLURM=true",
    "config.SLURM.PARTITION=debug",
    "config.SLURM.MEM_GB=4",
    "config.SLURM.NUM_CPU_PER_PROC=1",
    "config.SLURM.TIME_HOURS=1",
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    if reason := slurm.missing():
        pytest.skip(reason)
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as found:
        yield {**found, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def submit(environment, arguments, cwd) -> str:
    command = [sys.executable, str(REPO / "tools" / "run_distributed.py"), *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return re.search(r"submitted job (\d+)", done.stdout).group(1)


def wait_for(condition, out: Path, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "\n".join(
            path.read_text()[-2000:] for path in sorted((out / "slurm").glob("*.err"))
        )
        time.sleep(0.2)


def test_a_preempted_job_ends_like_one_that_was_left_alone(environment, images, tmp_path):
    alone, out = tmp_path / "alone", tmp_path / "out"
    done = run_tool(
        overrides(images, alone, *LONGER, "config.DISTRIBUTED.NUM_PROC_PER_NODE=2"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr

    job = submit(environment, overrides(images, out, *LONGER, *TWO_NODES), tmp_path)
    wait_for(lambda: (out / "model_phase1.torch").exists(), out)
    # What SLURM sends, and submitit listens for, before it takes a node away.
    slurm.call(environment, "scancel", "--signal=USR2", job)
    state = ("squeue", "-h", "-j", job, "-o", "%T")
    wait_for(lambda: slurm.call(environment, *state) == "PENDING", out)
    stopped_at = read_health(out)[-1]["iteration"]
    slurm.call(environment, "scontrol", "update", f"jobid={job}", "StartTime=now")
    finished = ("scontrol", "show", "job", job)
    wait_for(lambda: "JobState=COMPLETED" in slurm.call(environment, *finished), out)

    assert 3 <= stopped_at < 29, "the signal must come in the middle of the run"
    assert [record["iteration"] for record in read_health(out)] == list(range(30))
    expected, found = load_checkpoint(alone), load_checkpoint(out)
    weights = found.embedder.state_dict()
    for name, value in expected.embedder.state_dict().items():
        torch.testing.assert_close(weights[name], value, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.prototypes.weight, expected.prototypes.weight)


def test_what_slurm_needs_to_know_is_asked_for(environment, images, tmp_path):
    arguments = overrides(images, tmp_path / "run", *TWO_NODES, "config.SLURM.PARTITION=''")
    command = [sys.executable, str(REPO / "tools" / "run_distributed.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == ("error: set config.SLURM.PARTITION to submit to SLURM")
