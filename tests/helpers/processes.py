"""Runs a function, or a command, in several real processes."""

from __future__ import annotations

import os
import pickle
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.helpers.forked import ROOT, Forked, server

#: Neither the system nor a job's own step (`vice.runtime.launch`) takes one of these.
FIRST_PORT, PORTS = 10_000, 10_000


def run_processes(function: Callable[..., Any], ranks: int, *args: Any) -> list[Any]:
    """Calls ``function(rank, ranks, *args)`` in each process of a group; the results by rank."""
    if ranks == 1:
        return [function(0, 1, *args)]
    return spawn(_grouped, ranks, free_ports(1)[0], function, args)


def spawn(function: Callable[..., Any], ranks: int, *args: Any) -> list[Any]:
    """Calls ``function(rank, ranks, *args)`` in processes without a group; the results by rank."""
    server()
    with tempfile.TemporaryDirectory() as results:
        given = (ranks, results, function, args)
        mp.start_processes(_worker, given, nprocs=ranks, start_method="forkserver")
        return [pickle.loads(Path(results, str(rank)).read_bytes()) for rank in range(ranks)]


def launch(
    command: Sequence[str | Path], ranks: int, **environment: str
) -> list[subprocess.CompletedProcess[str]]:
    """Forks a command once for each rank, with the environment that torchrun gives; by rank."""
    given = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_ports(1)[0]),
        "WORLD_SIZE": str(ranks),
        **environment,
    }
    started = [
        Forked(command, **given, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(ranks)
    ]
    return [process.wait(180) for process in started]


def free_ports(count: int) -> list[int]:
    """Different ports of this machine that nobody listens on at the moment.

    They lie below those that the system hands out: any connection might get one of those before it
    is used, and those of a cluster are used again and again.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = FIRST_PORT + secrets.randbelow(PORTS)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            ports += [port] if port not in ports else []
    return ports


def _worker(rank: int, ranks: int, results: str, function: Any, args: Any) -> None:
    torch.set_num_threads(1)
    # A file, not a pipe: whoever waits for the process does not read meanwhile.
    Path(results, str(rank)).write_bytes(pickle.dumps(_plain(function(rank, ranks, *args))))


def _grouped(rank: int, ranks: int, port: int, function: Any, args: Any) -> Any:
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks
    )
    try:
        value = _plain(function(rank, ranks, *args))
        dist.barrier()
        return value
    finally:
        dist.destroy_process_group()


def _plain(value: Any) -> Any:
    # Tensors would be shared through file descriptors of a process that is about to end.
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
