"""Rendezvous of the processes of a job: who takes part, and what each of them does.

Ranks write short notes into the key-value store that torch.distributed meets at. When somebody does
not come, or a collective call gives up, the notes say which rank was waited for.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from vice.errors import OptionError, UserError
from vice.runtime.failures import raise_on_one_rank
from vice.runtime.launch import local_device, read_environment

# Skew: nodes do not start at the same second, and may load packages over a slow network.
JOIN_TIMEOUT = timedelta(minutes=10)
# Collective timeout: all wait while the first process checks files or fits clusters.
WAIT_TIMEOUT = timedelta(hours=1)
#: Most ranks that a message names.
NAMED = 8


class RendezvousError(Exception):
    """The address cannot be reached, or offered; says why."""


class MissingRanks(RendezvousError):
    """Not everyone came; says who did and who did not."""


class Roster:
    """Notes of all ranks in a store.

    Args:
        store: Shared by all ranks.
        rank: This process's number.
        ranks: Number of processes.
        timeout: How long ranks wait for each other.
    """

    def __init__(self, store: dist.Store, rank: int, ranks: int, timeout: timedelta) -> None:
        self.store = store
        self.rank = rank
        self.ranks = ranks
        self.timeout = timeout
        self.host = socket.gethostname()

    def note(self, doing: str, iteration: int = 0) -> None:
        """Writes down what this rank does from now on.

        Args:
            doing: A few words.
            iteration: Of the step.
        """
        text = {"host": self.host, "doing": doing, "iteration": iteration, "time": time.time()}
        self.store.set(_key(self.rank), json.dumps(text))

    def exit_barrier(self) -> None:
        """Barrier at the end: all leave once rank 0 is ready to; it keeps the store, and is last.

        Raises:
            torch.distributed.DistError: Rank 0 did not get ready.
        """
        others = [f"vice/left{rank}" for rank in range(1, self.ranks)]
        if self.rank == 0:
            self.store.set("vice/leave", "")
            # Grace period: who does not answer by now has nothing more to say.
            with suppress(dist.DistError, RuntimeError):
                self.store.wait(others, timedelta(seconds=10))
        else:
            self.store.wait(["vice/leave"], self.timeout)
            self.store.set(others[self.rank - 1], "")

    def report(self) -> str:
        """What each rank was last seen doing, those that are behind first."""
        try:
            notes = {rank: self.read(rank) for rank in range(self.ranks)}
        except (dist.DistError, RuntimeError):
            return "rank 0 no longer answers"
        now = time.time()
        order = sorted(notes, key=lambda rank: (notes[rank]["iteration"], notes[rank]["time"]))
        lines = [
            f"rank {rank} on {notes[rank]['host']}: {notes[rank]['doing']} at iteration "
            f"{notes[rank]['iteration']} for {now - notes[rank]['time']:.0f} s"
            for rank in order[:NAMED]
        ]
        more = [f"and {self.ranks - NAMED} more"] if self.ranks > NAMED else []
        return "; ".join(lines + more)

    def read(self, rank: int) -> dict[str, Any]:
        """The last note of a rank."""
        if not self.store.check([_key(rank)]):
            return {"host": "?", "doing": "not there", "iteration": -1, "time": time.time()}
        note: dict[str, Any] = json.loads(self.store.get(_key(rank)))
        return note


def rendezvous(
    address: str, rank: int, ranks: int, timeout: timedelta, *, attempt: str | None = None
) -> Roster:
    """Rendezvous with the other ranks.

    Args:
        address: ``HOST:PORT`` of rank 0.
        rank: This process's number.
        ranks: Number of processes.
        timeout: Of the rendezvous.
        attempt: Of torchrun, whose own process then keeps the store; None: rank 0 does.

    Returns:
        The roster that everyone is on.

    Raises:
        RendezvousError: The address cannot be reached, or not everyone came.
    """
    host, _, port = address.rpartition(":")
    keeps = rank == 0 and attempt is None
    try:
        store: dist.Store = dist.TCPStore(
            host, int(port), ranks, keeps, timeout, wait_for_workers=False
        )
    except (dist.DistError, RuntimeError, ValueError, OSError) as error:
        raise RendezvousError(str(error).partition("\n")[0]) from error
    # Key prefix: what an earlier attempt has left in the store is none of this one's.
    store = dist.PrefixStore(attempt, store) if attempt else store
    roster = Roster(store, rank, ranks, timeout)
    roster.note("starting")
    try:
        store.wait([_key(each) for each in range(ranks)], timeout)
    except dist.DistError as error:
        there = [each for each in range(ranks) if store.check([_key(each)])]
        places = "; ".join(f"rank {each} on {roster.read(each)['host']}" for each in there[:NAMED])
        raise MissingRanks(
            f"{_names(sorted({*range(ranks)} - {*there}))} of {ranks} did not come within "
            f"{_long(timeout)}; there: {places}"
        ) from error
    return roster


def _make_group(roster: Roster, backend: str, timeout: timedelta, **options: Any) -> None:
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", roster.store),
        rank=roster.rank,
        world_size=roster.ranks,
        timeout=timeout,
        **options,
    )


def join(address: str, rank: int, ranks: int, *, backend: str, timeout: timedelta) -> Roster:
    """Meets the other ranks of a training and makes the default process group.

    Args:
        address: ``HOST:PORT`` of rank 0.
        rank: This process's number.
        ranks: Number of processes.
        backend: ``"gloo"`` or ``"nccl"``.
        timeout: Of the meeting, and of every collective call after it.

    Returns:
        The roster that everyone is on.

    Raises:
        UserError: The address cannot be reached, or not everyone came.
    """
    try:
        roster = rendezvous(address, rank, ranks, timeout)
    except MissingRanks as error:
        raise OptionError(
            "{who}. Look at their logs, or wait longer with {join.timeout}", who=error
        ) from error
    except RendezvousError as error:
        raise OptionError(
            "{who} cannot {what} {where}: {why}. Is the port free, and open between the machines? "
            "Another one is chosen by {join.address}",
            who=f"rank {rank} of {ranks} on {socket.gethostname()}",
            what="offer" if rank == 0 else "reach rank 0 at",
            where=address,
            why=error,
        ) from error
    _make_group(roster, backend, timeout)
    return roster


@contextmanager
def join_from_environment(
    device: str | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    timeout: timedelta = JOIN_TIMEOUT,
) -> Iterator[str | None]:
    """Makes the processes of torchrun or srun one group of torch.distributed for a while.

    A process on its own joins nothing. With several, a `UserError` that all of them meet comes out
    of one of them only; one that a single process meets names its rank. Processes that end because
    another one failed say so in one line. The group is destroyed at the end, after a failure by
    the end of the process.

    Args:
        device: What the user named: None, ``"cpu"`` or ``"cuda"``.
        environment: Read with `vice.runtime.launch.read_environment`; None: ``os.environ``.
        timeout: How long processes wait for one another to begin.

    Yields:
        The device of this process: ``"cuda:<index>"`` (joined by nccl) or ``"cpu"`` (gloo); for a
        process on its own the argument.

    Raises:
        UserError: The processes cannot reach one another, or the device cannot serve them.
        SystemExit: In processes whose failure another one reports; status 2 for a `UserError`.
    """
    given = os.environ if environment is None else environment
    process = read_environment(given)
    if process is None:
        yield device
        return
    address = f"{process.address}:{process.port}"
    try:
        roster = rendezvous(
            address, process.rank, process.world_size, timeout, attempt=_attempt(given)
        )
    except RendezvousError as error:
        raise UserError(
            f"rank {process.rank} of {process.world_size} cannot meet the others at {address}: "
            f"{error}; see that all processes were started and that the address is reachable, or "
            "set MASTER_ADDR and MASTER_PORT"
        ) from error
    try:
        local = local_device(device, process.local_rank, torch.cuda.device_count())
        if local == "cpu":
            _make_group(roster, "gloo", WAIT_TIMEOUT)
        else:
            torch.cuda.set_device(local)
            _make_group(roster, "nccl", WAIT_TIMEOUT, device_id=torch.device(local))
        yield local
        dist.barrier()
    except Exception as error:
        # The group ends with the process: once it is gone the others stop, and whoever started
        # them may then kill this one before its message is out.
        raise_on_one_rank(roster, error)
    dist.destroy_process_group()


def _attempt(environment: Mapping[str, str]) -> str | None:
    """Which start of torchrun this is, if torchrun's own process keeps the store."""
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    return f"vice/attempt{environment.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _key(rank: int) -> str:
    return f"vice/rank{rank}"


def _names(ranks: list[int]) -> str:
    more = f" and {len(ranks) - NAMED} more" if len(ranks) > NAMED else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks[:NAMED]))}{more}"


def _long(timeout: timedelta) -> str:
    seconds = timeout.total_seconds()
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
