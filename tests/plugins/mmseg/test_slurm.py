"""Scoring on a real SLURM of two nodes, by the script that users submit."""

from __future__ import annotations

import json

import pytest

from tests.helpers.jobs import SCRIPTS, sbatch, state, wait_for_state
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters

from .helpers import QUIET
from .test_ranks import assert_same_clusters

pytestmark = pytest.mark.xdist_group("slurm")

TWO_NODES = ["--nodes=2", "--ntasks-per-node=1"]
WHO = (
    "import os; from vice.runtime.launch import read_environment; "
    "print(read_environment(os.environ))"
)


def submit(environment, folder, *command):
    """Submits a job, waits for its end and returns its state and what it printed."""
    log = folder / "slurm" / "job.err"
    log.parent.mkdir()
    job = sbatch(environment, log, [*TWO_NODES, *command])
    wait_for_state(environment, job, folder, "COMPLETED", "FAILED", "CANCELLED")
    return state(environment, job), log.read_text()


def test_what_two_nodes_train_they_score_like_one_process(cluster, requeued, make_folder, tmp_path):
    pytest.importorskip("vissl")
    (run, _), root = requeued, make_folder(train=3, val=3)
    one, two = tmp_path / "one", tmp_path / "two"
    evaluate_clusters(str(run), root, one, clusters=[4], changes={"kmeans_pixels": 1000}, **QUIET)
    arguments = [run, "--dataset", root, "--out", two, "--clusters", 4, "--pixels", 1000]
    script = SCRIPTS / "evaluate.sbatch"
    ended, log = submit(cluster, tmp_path, script, "tools/eval_cluster.py", *arguments)
    assert ended == "COMPLETED", log
    assert log.count("mIoU / accuracy in %") == 1
    assert_same_clusters(one, two, [4])
    assert json.loads((two / "results.json").read_text())["ranks"] == 2


def test_a_script_without_srun_is_one_process(cluster, tmp_path):
    script = tmp_path / "alone.sh"
    script.write_text(f'#!/bin/bash\npython -c "{WHO}"\nsrun -n1 -N1 python -c "{WHO}"\n')
    ended, log = submit(cluster, tmp_path, script)
    assert ended == "COMPLETED", log
    assert log.split() == ["None", "None"]
