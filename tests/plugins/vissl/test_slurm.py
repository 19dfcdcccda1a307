"""Training on a real SLURM: two nodes, submitted, preempted, queued again, finished."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import slurm
from tests.kills import differences
from tests.plugins.vissl.conftest import REPO, overrides, run_tool
from vice.health import read_health
from vice.snapshots import newest_snapshot, read_snapshot

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


SCRIPTS = REPO / "scripts" / "slurm"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    if reason := slurm.missing():
        pytest.skip(reason)
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture(scope="module")
def alone(images, tmp_path_factory):
    """The same training by two processes of one machine, left in peace."""
    out = tmp_path_factory.mktemp("alone") / "alone"
    more = ("config.DISTRIBUTED.NUM_PROC_PER_NODE=2",)
    done = run_tool(overrides(images, out, *LONGER, *more), cwd=out.parent)
    assert done.returncode == 0, done.stderr
    return out


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


def sbatch(environment, log, script, *arguments) -> str:
    command = [
        "sbatch",
        "--parsable",
        f"--output={log}",
        "--gres=none",
        "--cpus-per-task=1",
        "--mem=2G",
    ]
    done = subprocess.run(
        [*command, *map(str, script), *arguments],
        env=environment,
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def training_by_sbatch(environment, images, tmp_path) -> tuple[str, Path, Path]:
    """A job on two nodes in the middle of its training; its number, run folder and log."""
    out, log = tmp_path / "out", tmp_path / "slurm" / "job.err"
    log.parent.mkdir()
    script = ["--nodes=2", SCRIPTS / "train.sbatch"]
    job = sbatch(environment, log, script, *overrides(images, out, *LONGER))
    wait_for(lambda: (out / "model_phase1.torch").exists(), tmp_path)
    return job, out, log


def state(environment, job) -> str:
    text = slurm.call(environment, "scontrol", "show", "job", job)
    return re.search(r"JobState=(\w+)", text).group(1)


def wait_for_state(environment, job, out, *names) -> None:
    wait_for(lambda: state(environment, job) in names, out)


def requeued(environment, job, out) -> None:
    """Waits until a job has been queued again, and lets it start at once."""
    wait_for_state(environment, job, out, "PENDING")
    slurm.call(environment, "scontrol", "update", f"jobid={job}", "StartTime=now")
    wait_for_state(environment, job, out, "COMPLETED")


@pytest.mark.parametrize("signal", ["USR2", "USR1"])
def test_a_preempted_job_ends_like_one_that_was_left_alone(
    environment, images, alone, tmp_path, signal
):
    """USR2 is what submitit asks SLURM for, USR1 what an administrator may send."""
    out = tmp_path / "out"
    job = submit(environment, overrides(images, out, *LONGER, *TWO_NODES), tmp_path)
    wait_for(lambda: (out / "model_phase1.torch").exists(), out)
    slurm.call(environment, "scancel", f"--signal={signal}", job)
    wait_for_state(environment, job, out, "PENDING")
    stopped_at = read_health(out)[-1]["iteration"]
    requeued(environment, job, out)
    assert 3 <= stopped_at < 29, "the signal must come in the middle of the run"
    assert [record["iteration"] for record in read_health(out)] == list(range(30))
    assert differences(alone, out) == []


def test_sbatch_trains_on_two_nodes_and_queues_again(environment, images, alone, tmp_path):
    job, out, log = training_by_sbatch(environment, images, tmp_path)
    slurm.call(environment, "scancel", "--signal=USR1", job)
    requeued(environment, job, tmp_path)
    assert "stopped, and saved: the same command goes on" in log.read_text()
    assert [record["iteration"] for record in read_health(out)] == list(range(30))
    assert differences(alone, out) == []


def test_a_cancelled_job_saves_itself_and_stays_cancelled(environment, images, tmp_path):
    job, out, _ = training_by_sbatch(environment, images, tmp_path)
    slurm.call(environment, "scancel", job)
    running = ("squeue", "-h", "-j", job)
    wait_for(lambda: not slurm.call(environment, *running), tmp_path)
    text = slurm.call(environment, "scontrol", "show", "job", job)
    assert "JobState=CANCELLED" in text and "Restarts=0" in text
    done = read_snapshot(newest_snapshot(out))["iteration"]
    assert 6 <= done < 30
    assert read_health(out)[-1]["iteration"] == done - 1, "nothing of what was done is lost"


def test_a_lost_node_costs_only_steps(environment, images, alone, tmp_path):
    job, out, _ = training_by_sbatch(environment, images, tmp_path)
    node = slurm.nodes(environment)[1]
    slurm.take_down(environment, node)
    wait_for_state(environment, job, tmp_path, "PENDING")
    slurm.bring_back(environment, node)
    requeued(environment, job, tmp_path)
    assert differences(alone, out) == []


def test_a_rank_that_raises_ends_the_job_with_its_own_words(environment, images, tmp_path):
    script = tmp_path / "faulty.sbatch"
    script.write_text(
        "#!/bin/bash\n#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=1\n"
        'srun --wait=60 --label python -m tests.plugins.vissl.faulty raise 1 4 "$@"\n'
    )
    log = tmp_path / "slurm" / "job.err"
    log.parent.mkdir()
    job = sbatch(environment, log, [script], *overrides(images, tmp_path / "out", *LONGER))
    wait_for_state(environment, job, tmp_path, "FAILED")
    text = log.read_text()
    assert "1: ValueError: harm on purpose" in text
    last = [line for line in text.splitlines() if line.startswith("0: error:")]
    assert len(last) == 1
    assert "another failed first: rank 1 on" in last[0] and "harm on purpose" in last[0]
    assert text.index("1: ValueError: harm on purpose") < text.index(last[0])
    assert (tmp_path / "out" / "model_phase0.torch").exists()


def test_a_job_array_makes_the_superpixels(environment, images, tmp_path):
    cache = tmp_path / "cache"
    more = f"config.VICE.SUPERPIXELS.cache_dir={cache}"
    script = ["--array=0-1", SCRIPTS / "superpixels.sbatch"]
    logs = tmp_path / "slurm"
    logs.mkdir()
    arguments = overrides(images, tmp_path / "out", more)
    job = sbatch(environment, logs / "%a.err", script, *arguments)
    finished = ("squeue", "-h", "-j", job, "-o", "%T")
    wait_for(lambda: not slurm.call(environment, *finished), tmp_path)
    texts = sorted((logs / f"{number}.err").read_text() for number in (0, 1))
    assert all("3 images, 3 new maps" in text for text in texts), texts
    assert len(list(cache.rglob("*.npz"))) == 6


def test_what_slurm_needs_to_know_is_asked_for(environment, images, tmp_path):
    arguments = overrides(images, tmp_path / "run", *TWO_NODES, "config.SLURM.PARTITION=''")
    command = [sys.executable, str(REPO / "tools" / "run_distributed.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == ("error: set config.SLURM.PARTITION to submit to SLURM")
