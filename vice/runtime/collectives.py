"""Collectives that training needs; each is the identity on a single process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from vice.errors import UserError

T = TypeVar("T")


class RankFailed(RuntimeError):
    """Another process failed, and reports it itself."""


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


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return all_reduce_(value.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_reduce_(gradient.clone())


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, through which gradients go.

    Each rank's value has a part in the losses of all of them, so its gradient is the sum of theirs;
    the mean over ranks, which data-parallel training takes, is then that of a single process.

    Args:
        value: Any shape; the same on every rank, all of which must go the way back together.
    """
    if world_size() == 1:
        return value
    summed: Tensor = _SumOverRanks.apply(value)
    return summed


@torch.no_grad()
def broadcast_(value: Tensor, group: Any = None) -> Tensor:
    """Gives every rank the first one's values, in place.

    Args:
        value: Any shape; the same on every rank.
        group: Process group; None is the default group.

    Returns:
        The same tensor.
    """
    if world_size(group) > 1:
        dist.broadcast(value, group=group, group_src=0)
    return value


def from_each_rank(value: T, group: Any = None) -> Iterator[T]:
    """Gives every rank the values of all, one after the other.

    Args:
        value: Any that pickles.
        group: Process group that takes objects; None is the default group.

    Yields:
        A value a rank, in their order.
    """
    if world_size(group) == 1:
        yield value
        return
    for source in range(world_size(group)):
        sent: list[Any] = [value if rank(group) == source else None]
        dist.broadcast_object_list(sent, group_src=source, group=group)
        yield sent[0]


def wait_for_all(group: Any = None) -> None:
    """Barrier: comes back when every rank has called it.

    Args:
        group: Process group that takes objects; None is the default group.
    """
    for _ in from_each_rank(None, group):
        pass


def on_first_rank(function: Callable[[], T], group: Any = None) -> T:
    """Calls a function on rank 0 alone and gives its value to all ranks.

    Args:
        function: Its value must pickle. On a single process it is simply called.
        group: Process group; None is the default group.

    Returns:
        What it returned on rank 0; a copy on the others.

    Raises:
        UserError: Raised by the function, on all ranks.
        RankFailed: On the other ranks, whatever else it raised on rank 0.
    """
    if world_size(group) == 1:
        return function()
    outcome: list[Any] = [None, None]
    if rank(group) == 0:
        try:
            outcome = [function(), None]
        except Exception as error:
            kind = UserError if isinstance(error, UserError) else RankFailed
            dist.broadcast_object_list([None, kind(str(error))], group_src=0, group=group)
            raise
    dist.broadcast_object_list(outcome, group_src=0, group=group)
    value, failure = outcome
    if failure is not None:
        raise failure
    return value


def cpu_group(timeout: timedelta = timedelta(hours=1)) -> Any:
    """A group of all ranks for tensors in main memory; every rank must ask for it.

    Args:
        timeout: Longest that a collective may take.

    Returns:
        None (the default group) where that works on the CPU, else a new gloo group.
    """
    if world_size() == 1 or dist.get_backend() == "gloo":
        return None
    return dist.new_group(backend="gloo", timeout=timeout)
