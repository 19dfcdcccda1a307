"""Failures of ranks: which was the first, so that one rank raises for all."""

from __future__ import annotations

import hashlib
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import torch.distributed as dist

from vice.errors import UserError, one_line
from vice.names import name_bytes
from vice.runtime.collectives import RankFailed

if TYPE_CHECKING:
    from vice.runtime.rendezvous import Roster

#: How long a process that failed waits to hear whether the others found the same.
AGREE_SECONDS = 3.0
_FAILED = "vice/failed"
logger = logging.getLogger(__name__)


def report_failure(roster: Roster, reason: str) -> str:
    """Reports that this rank fails; the first one is the cause, the others follow from it.

    Args:
        roster: Of the job.
        reason: In one line.

    Returns:
        Empty for the first one; else who was first, and why.
    """
    entry = f"rank {roster.rank} on {roster.host}: {reason}"
    with suppress(dist.DistError, RuntimeError):
        # Compare-and-set: an empty expectation writes only where nothing was written before.
        first = roster.store.compare_set(_FAILED, "", entry).decode()
        return "" if first == entry else first
    return "rank 0, which no longer answers"


def raise_on_one_rank(roster: Roster, error: Exception) -> NoReturn:
    """Raises in one process for all that failed of the same cause.

    Raises:
        UserError: In the process that is to tell of it; names the rank that met it alone.
        SystemExit: In the others; status 2 for a `UserError`.
    """
    if isinstance(error, UserError):
        text = one_line(error)
        speaker, shared = _agree(roster, text)
        if speaker:
            raise UserError(text if shared else f"rank {roster.rank}: {text}") from error
        raise SystemExit(2) from error
    if isinstance(error, RankFailed) or _somebody_failed(roster):
        raise SystemExit(f"rank {roster.rank}: stopped, because another process failed") from error
    report_failure(roster, type(error).__name__)
    logger.error("rank %d failed:", roster.rank)
    raise error


def _agree(roster: Roster, text: str) -> tuple[bool, bool]:
    """Whether this process is the one to speak, and whether all of them met the same error."""
    store, key = roster.store, hashlib.sha256(name_bytes(text)).hexdigest()
    end = time.monotonic() + AGREE_SECONDS
    report_failure(roster, text)
    speaks, shared = True, False
    # Store gone: the first process has left already, of a failure of its own.
    with suppress(RuntimeError):
        store.add(key, 1)
        # Election: one line is enough where each has met a wrong file of its own.
        speaks = store.add("vice/told", 1) == 1
        shared = _all_reach(roster, key, end)
        store.add("vice/asked", 1)
        if roster.rank == 0:
            # Barrier: the store goes with this process; nobody must be left asking.
            _all_reach(roster, "vice/asked", end + 1)
    return speaks, shared


def _all_reach(roster: Roster, key: str, end: float) -> bool:
    while roster.store.add(key, 0) < roster.ranks:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _somebody_failed(roster: Roster) -> bool:
    try:
        return bool(roster.store.check([_FAILED]))
    except RuntimeError:
        return True
