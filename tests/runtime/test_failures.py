from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.helpers.processes import free_ports, launch
from vice.errors import UserError
from vice.runtime.rendezvous import join_from_environment

PROGRAM = Path(__file__).parents[1] / "helpers" / "joined.py"


def joined(how, *options, ranks=2):
    return launch([PROGRAM, how, *options], ranks)


def test_the_first_one_waits_for_what_the_others_write(tmp_path):
    first, second = joined("late", "--file", tmp_path / "written")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert not list(tmp_path.iterdir())


def test_processes_join_and_the_first_one_speaks():
    first, *others = joined("well", ranks=3)
    assert first.returncode == 0, first.stderr
    assert first.stdout == "cpu: sum 6 of 3, joined now: False\n"
    assert first.stderr.endswith("starting\n")
    for other in others:
        assert (other.returncode, other.stdout, other.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("all",), "x.png: broken; remove it"),
        (("checked",), "y.png: broken; remove it"),
        (("well", "--device", "cuda:1"), "device cuda:1 cannot serve several processes: name cpu, "
         "cuda or none"),
    ],
)  # fmt: skip
def test_an_error_of_all_is_told_once(arguments, message):
    done = joined(*arguments)
    assert [process.returncode for process in done] == [2, 2]
    assert told(done) == [f"error: {message}"]


def test_an_error_of_one_names_its_rank_and_ends_all():
    first, second = joined("second")
    assert (first.returncode, second.returncode) == (1, 2)
    assert second.stderr == "error: rank 1: x.png: broken; remove it\n"
    assert told([first]) == ["rank 0: stopped, because another process failed"]


@pytest.mark.parametrize(("how", "guilty"), [("bug", 1), ("first bug", 0)])
def test_a_bug_keeps_its_traceback_and_names_its_rank(how, guilty):
    done = joined(how)
    assert [process.returncode for process in done] == [1, 1]
    text = done[guilty].stderr
    assert f"rank {guilty} failed" in text and text.endswith("ValueError: a bug\n")
    assert told([done[1 - guilty]]) == [
        f"rank {1 - guilty}: stopped, because another process failed"
    ]


def test_a_wrong_command_line_is_told_once():
    first, second = joined("nonsense")
    assert (first.returncode, second.returncode) == (2, 2)
    assert "invalid choice: 'nonsense'" in first.stderr and second.stderr == ""


def test_a_process_on_its_own_joins_nothing():
    with join_from_environment("cuda:1", {}) as device:
        assert device == "cuda:1" and not dist.is_initialized()


def test_an_address_where_nobody_waits_is_named():
    (port,) = free_ports(1)
    with pytest.raises(UserError, match=f"rank 1 of 2 cannot meet .*127.0.0.1:{port}"):
        meet(1, port)


def test_a_first_process_that_waits_in_vain_or_finds_its_port_taken():
    who = "rank 1 of 2 did not come within 1 s; there: rank 0 on"
    with pytest.raises(UserError, match=f"rank 0 of 2 cannot meet the others at .*: {who}"):
        meet(0, free_ports(1)[0])
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with pytest.raises(UserError, match="set MASTER_ADDR and MASTER_PORT"):
            meet(0, taken.getsockname()[1])


def test_each_start_of_torchrun_meets_anew_in_the_store_that_its_own_process_keeps():
    (port,) = free_ports(1)
    store = dist.TCPStore("127.0.0.1", port, None, True, wait_for_workers=False)
    for attempt in ("0", "1"):
        given = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": attempt}
        done = launch([PROGRAM, "all"], 2, MASTER_PORT=str(port), **given)
        assert told(done) == ["error: x.png: broken; remove it"]
    assert store.num_keys() > 0


def meet(rank, port):
    environment = {
        "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    with join_from_environment("cpu", environment, timeout=timedelta(seconds=1)):
        raise AssertionError("nobody is there to meet")


def told(processes):
    """Lines of stderr, without the log of the first process and gloo's own warnings."""
    lines = [line for process in processes for line in process.stderr.splitlines()]
    return [line for line in lines if not line[:2].isdigit() and not line.startswith("[")]
