"""Runs a function in several real processes joined by gloo."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_processes(function: Callable[..., Any], ranks: int, *args: Any) -> list[Any]:
    """Calls ``function(rank, ranks, *args)`` in each process; returns the results by rank."""
    if ranks == 1:
        return [function(0, 1, *args)]
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    mp.spawn(_worker, (ranks, free_ports(1)[0], results, function, args), nprocs=ranks, join=True)
    found = dict(results.get() for _ in range(ranks))
    return [found[rank] for rank in range(ranks)]


def free_ports(count: int) -> list[int]:
    """Different ports of this machine that nobody listens on at the moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in sockets]


def _worker(rank: int, ranks: int, port: int, results: Any, function: Any, args: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks
    )
    try:
        value = function(rank, ranks, *args)
        results.put((rank, _plain(value)))
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _plain(value: Any) -> Any:
    # Tensors would be shared through file descriptors of a process that is about to end.
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
