"""Scoring on a real SLURM of two nodes, by the script that users submit."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from tests import slurm
from tests.plugins.vissl.conftest import overrides
from tests.processes import ROOT
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters

from .helpers import QUIET
from .test_ranks import assert_same_clusters

TWO_NODES = ["--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--gres=none"]
WHO = "import os; from vice.launch import read_environment; print(read_environment(os.environ))"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    if reason := slurm.missing():
        pytest.skip(reason)
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as found:
        yield found


def submit(environment, log, *command):
    """Submits a job, waits for its end and returns its state and what it printed."""
    sbatch = ["sbatch", "--parsable", f"--output={log}", *TWO_NODES, *map(str, command)]
    done = subprocess.run(sbatch, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    end = time.monotonic() + 180
    while time.monotonic() < end:
        state = slurm.call(environment, "scontrol", "show", "job", done.stdout.strip())
        if any(f"JobState={name}" in state for name in ("COMPLETED", "FAILED", "CANCELLED")):
            break
        time.sleep(0.2)
    return state, log.read_text()


def test_what_two_nodes_train_they_score_like_one_process(environment, make_folder, tmp_path):
    pytest.importorskip("vissl")
    root, one, two = make_folder(train=3, val=3), tmp_path / "one", tmp_path / "two"
    run = tmp_path / "run"
    scripts = ROOT / "scripts" / "slurm"
    batch = "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=1"
    state, log = submit(
        environment,
        tmp_path / "train.log",
        scripts / "train.sbatch",
        *overrides(root / "images" / "train", run, batch, "config.OPTIMIZER.num_epochs=1"),
    )
    assert "JobState=COMPLETED" in state, log
    evaluate_clusters(str(run), root, one, clusters=[4], changes={"kmeans_pixels": 1000}, **QUIET)
    script = scripts / "evaluate.sbatch"
    arguments = [run, "--dataset", root, "--out", two, "--clusters", 4, "--pixels", 1000]
    state, log = submit(
        environment, tmp_path / "job.log", script, "tools/eval_cluster.py", *arguments
    )
    assert "JobState=COMPLETED" in state, log
    assert log.count("mIoU / accuracy in %") == 1
    assert_same_clusters(one, two, [4])
    assert json.loads((two / "results.json").read_text())["ranks"] == 2


def test_a_script_without_srun_is_one_process(environment, tmp_path):
    script = tmp_path / "alone.sh"
    script.write_text(f'#!/bin/bash\npython -c "{WHO}"\nsrun -n1 -N1 python -c "{WHO}"\n')
    state, log = submit(environment, tmp_path / "job.log", script)
    assert "JobState=COMPLETED" in state, log
    assert log.split() == ["None", "None"]
