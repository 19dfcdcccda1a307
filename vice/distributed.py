"""The few collectives that the method needs; each is the identity on a single process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size(group: Any = None) -> int:
    """Number of processes in the group; 1 when torch.distributed is not initialised."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size(group)
    return 1


def rank(group: Any = None) -> int:
    """This process's number in the group; 0 when torch.distributed is not initialised."""
    return dist.get_rank(group) if world_size(group) > 1 else 0


@torch.no_grad()
def all_gather(value: Tensor, group: Any = None) -> list[Tensor]:
    """Gives every rank the tensors of all ranks.

    Args:
        value: Any shape; the same on every rank.
        group: Process group; None is the default group.

    Returns:
        A tensor a rank, in their order.
    """
    if world_size(group) == 1:
        return [value.clone()]
    gathered = [torch.empty_like(value) for _ in range(world_size(group))]
    dist.all_gather(gathered, value.contiguous(), group)
    return gathered


@torch.no_grad()
def all_reduce_(value: Tensor, op: str = "sum", group: Any = None) -> Tensor:
    """Reduces a tensor over the ranks, in place.

    Args:
        value: Any shape; the same on every rank.
        op: ``"sum"`` or ``"max"``.
        group: Process group; None is the default group.

    Returns:
        The same tensor.
    """
    if world_size(group) > 1:
        dist.all_reduce(value, dist.ReduceOp.SUM if op == "sum" else dist.ReduceOp.MAX, group)
    return value
