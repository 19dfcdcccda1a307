"""Joins the processes that torchrun or srun started, and lets them fail with one voice."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from vice.errors import UserError, one_line
from vice.names import name_bytes
from vice.runtime.collectives import RankFailed
from vice.runtime.launch import Place, local_device, read_environment

# Nodes do not start at the same second, and may load their packages over a slow network.
JOIN_TIMEOUT = timedelta(minutes=10)
# While the first process checks files or fits clusters, all others wait for it.
WAIT_TIMEOUT = timedelta(hours=1)
# How long a process that failed waits to hear whether the others found the same.
AGREE_SECONDS = 3.0
logger = logging.getLogger(__name__)


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
    place = read_environment(os.environ if environment is None else environment)
    if place is None:
        yield device
        return
    store = _meet(place, timeout)
    try:
        own = local_device(device, place.local_rank, torch.cuda.device_count())
        _join(place, own, store)
        yield own
        dist.barrier()
    except Exception as error:
        # The group ends with the process: once it is gone the others stop, and whoever started
        # them may then kill this one before its message is out.
        _report(error, place, dist.PrefixStore("failures", store))
    dist.destroy_process_group()


def _meet(place: Place, timeout: timedelta) -> dist.Store:
    """Waits for the other processes; returns the store that all of them share."""
    url = f"tcp://{place.address}:{place.port}"
    try:
        store, _, _ = next(dist.rendezvous(url, place.rank, place.world_size, timeout=timeout))
    except (RuntimeError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"rank {place.rank} of {place.world_size} cannot meet the others at {place.address}:"
            f"{place.port}: {reason}; see that all processes were started and that the address is "
            "reachable, or set MASTER_ADDR and MASTER_PORT"
        ) from error
    return store


def _join(place: Place, device: str, store: dist.Store) -> None:
    options: dict[str, Any] = {"backend": "gloo"}
    if device != "cpu":
        torch.cuda.set_device(device)
        options = {"backend": "nccl", "device_id": torch.device(device)}
    dist.init_process_group(
        store=dist.PrefixStore("group", store),
        rank=place.rank,
        world_size=place.world_size,
        timeout=WAIT_TIMEOUT,
        **options,
    )


def _report(error: Exception, place: Place, store: dist.Store) -> NoReturn:
    """Lets one process speak for all that failed of the same cause."""
    if isinstance(error, UserError):
        text = one_line(error)
        speaker, shared = _agree(text, place, store)
        if speaker:
            raise UserError(text if shared else f"rank {place.rank}: {text}") from error
        raise SystemExit(2) from error
    if isinstance(error, RankFailed) or _somebody_failed(store):
        raise SystemExit(f"rank {place.rank}: stopped, because another process failed") from error
    with suppress(RuntimeError):
        store.add("any", 1)
    logger.error("rank %d failed:", place.rank)
    raise error


def _agree(text: str, place: Place, store: dist.Store) -> tuple[bool, bool]:
    """Whether this process is the one to speak, and whether all of them met the same error."""
    key = hashlib.sha256(name_bytes(text)).hexdigest()
    end = time.monotonic() + AGREE_SECONDS
    speaks, shared = True, False
    # Without the store the first process has gone already, of a failure of its own.
    with suppress(RuntimeError):
        store.add("any", 1)
        store.add(key, 1)
        # One line is enough where each has met a wrong file of its own.
        speaks = store.add("told", 1) == 1
        shared = _reaches(store, key, place.world_size, end)
        store.add("asked", 1)
        if place.rank == 0:
            # The store goes with this process; nobody must be left asking.
            _reaches(store, "asked", place.world_size, end + 1)
    return speaks, shared


def _reaches(store: dist.Store, key: str, count: int, end: float) -> bool:
    while store.add(key, 0) < count:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _somebody_failed(store: dist.Store) -> bool:
    try:
        return store.add("any", 0) > 0
    except RuntimeError:
        return True
