"""Training on a real SLURM: two nodes, submitted, preempted, queued again, finished."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise

import pytest

from tests.helpers import slurm
from tests.helpers.forked import Forked
from tests.helpers.jobs import SCRIPTS, sbatch, start_again, wait_for, wait_for_job, wait_for_state
from tests.helpers.kills import differences
from tests.plugins.conftest import training_by_sbatch
from tests.plugins.vissl.conftest import LONGER, REPO, overrides
from vice.models.training_state import newest_snapshot, read_snapshot
from vice.runtime.health_log import read_health

pytest.importorskip("vissl")
pytestmark = pytest.mark.xdist_group("slurm")

TWO_NODES = (
    "config.DISTRIBUTED.NUM_NODES=2",
    "config.DISTRIBUTED.NUM_PROC_PER_NODE=1",
    "config.MACHINE.DEVICE=cpu",
    "config.SLURM.USE_SLURM=true",
    "config.SLURM.PARTITION=debug",
    "config.SLURM.MEM_GB=4",
    "config.SLURM.NUM_CPU_PER_PROC=1",
    "config.SLURM.TIME_HOURS=1",
)


def submit(cluster, arguments, cwd) -> str:
    command = [sys.executable, str(REPO / "tools" / "run_distributed.py"), *arguments]
    done = subprocess.run(command, cwd=cwd, env=cluster, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return re.search(r"submitted job (\d+)", done.stdout).group(1)


@pytest.mark.parametrize(
    "signals", [("USR2",), pytest.param(("USR2", "USR1"), marks=pytest.mark.slow)]
)
def test_a_preempted_job_ends_like_one_that_was_left_alone(
    cluster, images, alone, tmp_path, signals
):
    """USR2 is what submitit asks SLURM for, USR1 what an administrator may send."""
    out = tmp_path / "out"
    job = submit(cluster, overrides(images, out, *LONGER, *TWO_NODES), tmp_path)
    stopped_at = []
    for signal, phase in zip(signals, (1, 3), strict=False):
        wait_for_job(cluster, job, (out / f"model_phase{phase}.torch").exists, out)
        slurm.call(cluster, "scancel", f"--signal={signal}", job)
        wait_for_state(cluster, job, out, "PENDING")
        stopped_at.append(read_health(out)[-1]["iteration"])
        start_again(cluster, job, out)
    wait_for_state(cluster, job, out, "COMPLETED")
    for before, after in pairwise([10, *stopped_at, 35]):
        assert before < after, "each signal must come in the middle of the run"
    assert [record["iteration"] for record in read_health(out)] == list(range(36))
    assert differences(alone, out) == []


def test_sbatch_trains_on_two_nodes_and_a_signal_and_a_lost_node_cost_only_steps(requeued, alone):
    out, log = requeued
    assert "stopped, and saved: the same command goes on" in log.read_text()
    assert [record["iteration"] for record in read_health(out)] == list(range(36))
    assert differences(alone, out) == []


@pytest.mark.slow
def test_a_cancelled_job_saves_itself_and_stays_cancelled(cluster, images, tmp_path):
    job, out, _ = training_by_sbatch(cluster, images, tmp_path)
    slurm.call(cluster, "scancel", job)
    running = ("squeue", "-h", "-j", job)
    wait_for(lambda: not slurm.call(cluster, *running), tmp_path)
    text = slurm.call(cluster, "scontrol", "show", "job", job)
    assert "JobState=CANCELLED" in text and "Restarts=0" in text
    done = read_snapshot(newest_snapshot(out))["iteration"]
    assert 12 <= done < 36
    assert read_health(out)[-1]["iteration"] == done - 1, "nothing of what was done is lost"


@pytest.mark.slow
def test_a_rank_that_raises_ends_the_job_with_its_own_words(cluster, images, tmp_path):
    script = tmp_path / "faulty.sbatch"
    script.write_text(
        "#!/bin/bash\n#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=1\n"
        'srun --wait=60 --label python -m tests.plugins.vissl.faulty raise:1:7 "$@"\n'
    )
    log = tmp_path / "slurm" / "job.err"
    log.parent.mkdir()
    job = sbatch(cluster, log, [script], *overrides(images, tmp_path / "out", *LONGER))
    wait_for_state(cluster, job, tmp_path, "FAILED")
    text = log.read_text()
    assert "1: ValueError: harm on purpose" in text
    last = [line for line in text.splitlines() if line.startswith("0: error:")]
    assert len(last) == 1
    assert "another failed first: rank 1 on" in last[0] and "harm on purpose" in last[0]
    assert text.index("1: ValueError: harm on purpose") < text.index(last[0])
    assert (tmp_path / "out" / "model_phase0.torch").exists()


def test_a_job_array_makes_the_superpixels(cluster, images, tmp_path):
    cache = tmp_path / "cache"
    more = f"config.VICE.SUPERPIXELS.cache_dir={cache}"
    script = ["--array=0-1", SCRIPTS / "superpixels.sbatch"]
    logs = tmp_path / "slurm"
    logs.mkdir()
    arguments = overrides(images, tmp_path / "out", more)
    job = sbatch(cluster, logs / "%a.err", script, *arguments)
    finished = ("squeue", "-h", "-j", job, "-o", "%T")
    wait_for(lambda: not slurm.call(cluster, *finished), tmp_path)
    texts = sorted((logs / f"{number}.err").read_text() for number in (0, 1))
    assert all("3 images, 3 new maps" in text for text in texts), texts
    assert len(list(cache.rglob("*.npz"))) == 6


def submitting(cluster, arguments, cwd):
    """Submits from a fork: what starts it costs nothing, and sbatch is the real one."""
    settings = {name: cluster[name] for name in ("PATH", "SLURM_CONF", "CUDA_VISIBLE_DEVICES")}
    return Forked([REPO / "tools" / "run_distributed.py", *arguments], cwd=cwd, **settings).wait()


def test_jobs_of_one_folder_know_of_each_other(cluster, images, tmp_path):
    """Without a partition they go to the cluster's default one."""
    later = "config.SLURM.ADDITIONAL_PARAMETERS.begin=now+1hour"
    flags = "config.SLURM.ADDITIONAL_PARAMETERS={contiguous:true,hold:false,nodelist:null}"
    more = (*TWO_NODES, "config.SLURM.PARTITION=''", flags, later)
    arguments = overrides(images, tmp_path / "out", *more)
    jobs = []
    for number in range(4):
        if number == 3:
            slurm.call(cluster, "scancel", jobs.pop(0))
        done = submitting(cluster, arguments, tmp_path)
        assert done.returncode == 0, done.stderr
        told = re.findall(r"jobs? (.*) (?:is|are) for .* in the queue already", done.stderr)
        assert told == ([", ".join(jobs)] if jobs else [])
        jobs.append(re.search(r"submitted job (\d+)", done.stdout).group(1))
    told = slurm.call(cluster, "scontrol", "show", "job", jobs[-1])
    assert "Reason=BeginTime" in told and "ReqNodeList=(null)" in told
    assert "Contiguous=1" in told or "MinCPUsNode" in told
    slurm.call(cluster, "scancel", *jobs)


@pytest.mark.parametrize(
    ("key", "words"),
    [("PARTITION=night", "invalid partition"), ("ADDITIONAL_PARAMETERS.nodelist=x", "node name")],
)
def test_a_job_that_is_refused_leaves_nothing(cluster, images, tmp_path, key, words):
    out = tmp_path / "out"
    more = (*TWO_NODES, f"config.SLURM.{key}")
    done = submitting(cluster, overrides(images, out, *more), tmp_path)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert list((out / "slurm").iterdir()) == []
