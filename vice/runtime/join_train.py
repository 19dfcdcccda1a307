"""Who takes part in a run, what each rank does, and who failed first.

Ranks write short notes into the key-value store that torch.distributed meets at. When a collective
call gives up, the notes say which rank was waited for.
"""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from vice.errors import OptionError

#: Most ranks that a message names.
NAMED = 8
_FAILED = "vice/failed"


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

    def come_together(self) -> None:
        """Waits until every rank is there.

        Raises:
            UserError: Some have not come; says which have and which not.
        """
        self.note("starting")
        try:
            self.store.wait([_key(rank) for rank in range(self.ranks)], self.timeout)
        except dist.DistError as error:
            there = [rank for rank in range(self.ranks) if self.store.check([_key(rank)])]
            absent = sorted(set(range(self.ranks)) - set(there))
            places = "; ".join(self._place(rank) for rank in there[:NAMED])
            raise OptionError(
                "{absent} of {ranks} did not come within {within}; there: {there}. Look at their "
                "logs, or wait longer with {join.timeout}",
                absent=_names(absent),
                ranks=self.ranks,
                within=_long(self.timeout),
                there=places,
            ) from error

    def note(self, doing: str, iteration: int = 0) -> None:
        """Writes down what this rank does from now on.

        Args:
            doing: A few words.
            iteration: Of the step.
        """
        text = {"host": self.host, "doing": doing, "iteration": iteration, "time": time.time()}
        self.store.set(_key(self.rank), json.dumps(text))

    def first_to_fail(self, reason: str) -> str:
        """Registers that this rank fails; the first one is the cause, the others follow from it.

        Args:
            reason: In one line.

        Returns:
            Empty for the first one; else who was first, and why.
        """
        own = f"rank {self.rank} on {self.host}: {reason}"
        with suppress(dist.DistError, RuntimeError):
            # An empty expectation writes only where nothing was written before.
            first = self.store.compare_set(_FAILED, "", own).decode()
            return "" if first == own else first
        return "rank 0, which no longer answers"

    def leave_together(self) -> None:
        """Lets all ranks end after rank 0 is ready to, and rank 0, which keeps the store, last.

        Raises:
            torch.distributed.DistError: Rank 0 did not get ready.
        """
        others = [f"vice/left{rank}" for rank in range(1, self.ranks)]
        if self.rank == 0:
            self.store.set("vice/leave", "")
            # Who does not answer by now has nothing more to say.
            with suppress(dist.DistError, RuntimeError):
                self.store.wait(others, timedelta(seconds=10))
        else:
            self.store.wait(["vice/leave"], self.timeout)
            self.store.set(others[self.rank - 1], "")

    def report(self) -> str:
        """What each rank was last seen doing, those that are behind first."""
        try:
            notes = {rank: self._read(rank) for rank in range(self.ranks)}
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

    def _read(self, rank: int) -> dict[str, Any]:
        if not self.store.check([_key(rank)]):
            return {"host": "?", "doing": "not there", "iteration": -1, "time": time.time()}
        note: dict[str, Any] = json.loads(self.store.get(_key(rank)))
        return note

    def _place(self, rank: int) -> str:
        return f"rank {rank} on {self._read(rank)['host']}"


def join(address: str, rank: int, ranks: int, *, backend: str, timeout: timedelta) -> Roster:
    """Meets the other ranks and makes the default process group.

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
    host, _, port = address.rpartition(":")
    try:
        store = dist.TCPStore(host, int(port), ranks, rank == 0, timeout, wait_for_workers=False)
    except (dist.DistError, RuntimeError, ValueError) as error:
        what = "offer" if rank == 0 else "reach rank 0 at"
        raise OptionError(
            "{who} cannot {what} {where}: {why}. Is the port free, and open between the machines? "
            "Another one is chosen by {join.address}",
            who=f"rank {rank} of {ranks} on {socket.gethostname()}",
            what=what,
            where=address,
            why=str(error).splitlines()[0],
        ) from error
    roster = Roster(store, rank, ranks, timeout)
    roster.come_together()
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", store),
        rank=rank,
        world_size=ranks,
        timeout=timeout,
    )
    return roster


def _key(rank: int) -> str:
    return f"vice/rank{rank}"


def _names(ranks: list[int]) -> str:
    more = f" and {len(ranks) - NAMED} more" if len(ranks) > NAMED else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks[:NAMED]))}{more}"


def _long(timeout: timedelta) -> str:
    seconds = timeout.total_seconds()
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
