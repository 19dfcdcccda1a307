"""Ranks that know of each other, in real processes."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from tests.helpers.processes import free_ports, spawn
from vice.errors import OptionError, UserError
from vice.plugins.vissl.option_keys import KEYS
from vice.runtime.failures import report_failure
from vice.runtime.rendezvous import Roster, join

SECONDS = timedelta(seconds=20)


def _work(rank: int, ranks: int, port: int) -> dict:
    roster = join(f"127.0.0.1:{port}", rank, ranks, backend="gloo", timeout=SECONDS)
    value = torch.tensor(float(rank + 1))
    dist.all_reduce(value)
    roster.note("reading images", iteration=7 - rank)
    dist.barrier()
    report = roster.report()
    time.sleep(0.3 * rank)
    first = report_failure(roster, f"reason {rank}")
    dist.barrier()
    again = report_failure(roster, f"reason {rank}")
    roster.exit_barrier()
    dist.destroy_process_group()
    return {"sum": float(value), "report": report, "first": first, "again": again}


def test_ranks_meet_report_and_leave():
    found = spawn(_work, 3, free_ports(1)[0])
    assert [each["sum"] for each in found] == [6.0] * 3
    for each in found:
        order = [each["report"].index(f"rank {rank} on") for rank in (2, 1, 0)]
        assert order == sorted(order), "who is behind comes first"
        assert "reading images at iteration 5 for" in each["report"]
    assert found[0]["first"] == found[0]["again"] == ""
    assert all(each["first"].endswith(": reason 0") for each in found[1:])


def test_who_did_not_come_is_named():
    with pytest.raises(UserError, match=r"rank 1 of 2 did not come within 1 s; there: rank 0 on"):
        address = f"127.0.0.1:{free_ports(1)[0]}"
        join(address, 0, 2, backend="gloo", timeout=timedelta(seconds=1))


def test_an_address_where_nobody_is():
    with pytest.raises(UserError, match=r"rank 1 of 2 on .* cannot reach rank 0 at 127.0.0.1:"):
        address = f"127.0.0.1:{free_ports(1)[0]}"
        join(address, 1, 2, backend="gloo", timeout=timedelta(seconds=1))
    with pytest.raises(OptionError, match=r"Another one is chosen by address$") as caught:
        join("127.0.0.1:port", 0, 1, backend="gloo", timeout=SECONDS)
    assert "chosen by config.DISTRIBUTED.RUN_ID=HOST:PORT" in caught.value.spelled(KEYS)


def test_a_lost_store_is_said_to_be_rank_0():
    port = free_ports(1)[0]
    options = {"timeout": timedelta(seconds=2), "wait_for_workers": False}
    master = dist.TCPStore("127.0.0.1", port, 2, True, **options)
    roster = Roster(dist.TCPStore("127.0.0.1", port, 2, False, **options), 1, 2, SECONDS)
    roster.note("starting")
    del master
    time.sleep(0.2)
    assert "rank 0" in report_failure(roster, "anything")
    assert roster.report() == "rank 0 no longer answers"
