from __future__ import annotations

import pytest

from vice.errors import UserError
from vice.runtime.launch import ProcessPlace, first_host, local_device, read_environment, step_port

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
}
# What SLURM 22.05 sets in a batch script, and what srun adds for each task.
BATCH = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "node[07-08]",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "0",
}
SRUN = {
    **BATCH,
    "SLURM_PROCID": "6",
    "SLURM_LOCALID": "2",
    "SLURM_STEP_ID": "1",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_STEP_NUM_TASKS": "8",
}


def test_torchrun_says_who_and_where():
    assert read_environment(TORCHRUN) == ProcessPlace(5, 8, 1, "10.0.0.1", 29500)
    assert read_environment({**SRUN, **TORCHRUN}) == ProcessPlace(5, 8, 1, "10.0.0.1", 29500)


def test_srun_says_who_and_where():
    assert read_environment(SRUN) == ProcessPlace(6, 8, 2, "node07", step_port(4711, 1))
    given = {"MASTER_ADDR": "login", "MASTER_PORT": "1234"}
    assert read_environment({**SRUN, **given}) == ProcessPlace(6, 8, 2, "login", 1234)
    of_step = {**SRUN, "SLURM_STEP_NODELIST": "node08"}
    assert read_environment(of_step).address == "node08"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        BATCH,
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        {**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"},
        {**SRUN, **TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"},
        {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"},
    ],
)
def test_one_process_stays_on_its_own(environment):
    assert read_environment(environment) is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({**TORCHRUN, "MASTER_ADDR": ""}, "MASTER_ADDR: start with torchrun"),
        ({**TORCHRUN, "RANK": "first"}, "RANK is 'first', not a number"),
        ({k: v for k, v in TORCHRUN.items() if k != "LOCAL_RANK"}, "LOCAL_RANK is ''"),
        ({**SRUN, "SLURM_JOB_ID": ""}, "SLURM_JOB_ID"),
        ({**SRUN, "SLURM_STEP_NODELIST": "", "SLURM_JOB_NODELIST": ""}, "set MASTER_ADDR"),
    ],
)
def test_what_is_missing_is_named(environment, message):
    with pytest.raises(UserError, match=message):
        read_environment(environment)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("gpu1", "gpu1"),
        ("gpu1,gpu2", "gpu1"),
        ("node[003-004,9],login", "node003"),
        ("node[9,003-004]", "node9"),
        ("rack[2-3]-node[10,12-14].site", "rack2-node10.site"),
    ],
)
def test_first_host_of_a_list(hosts, first):
    assert first_host(hosts) == first


def test_ports_of_neighbouring_jobs_and_steps_differ():
    ports = [step_port(job, step) for job in range(9_990, 10_090) for step in range(16)]
    assert len(set(ports)) == len(ports)
    assert min(ports) >= 1024 and max(ports) < 32768


def test_each_process_gets_its_own_gpu():
    assert [local_device(None, i, 4) for i in range(4)] == [f"cuda:{i}" for i in range(4)]
    assert local_device("cuda", 3, 1) == "cuda:0", "SLURM shows each task its own GPU alone"
    assert local_device(None, 1, 0) == local_device("cpu", 1, 4) == "cpu"
    with pytest.raises(UserError, match="process 5 of a node that shows 4 GPUs"):
        local_device(None, 4, 4)
    with pytest.raises(UserError, match="cuda:1 cannot serve several"):
        local_device("cuda:1", 0, 2)
