"""Data loading processes that live as long as the training, instead of one epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from vice.runtime.loader_faults import answer_what_cannot_be_sent
from vice.runtime.threads import give_way


class SharedEpoch:
    """The number of an epoch, in memory that data loading processes see as well.

    Args:
        epoch: From 0.
    """

    def __init__(self, epoch: int = 0) -> None:
        self._value = torch.tensor([epoch]).share_memory_()

    def get(self) -> int:
        """The number."""
        return int(self._value.item())

    def set(self, epoch: int) -> None:
        """Changes it, for all processes."""
        self._value[0] = epoch


@dataclass
class Beginning:
    """What a data loading process does first.

    Attributes:
        give_way: Whether the network is computed on the same cores, and goes first.
        then: What is done after that, given its number, or None.
    """

    give_way: bool
    then: Callable[[int], None] | None = None

    def __call__(self, number: int) -> None:
        """Called once in each process."""
        answer_what_cannot_be_sent()
        if self.give_way:
            give_way()
        if self.then is not None:
            self.then(number)


def lasting(loader: Any, *, give_way: bool = False) -> Any:
    """A data loader whose processes are kept from epoch to epoch.

    A fork lets parent and child share memory until one of them writes to it (copy-on-write): the
    step after it copies all that a step writes to, which took as long as five steps of a small
    network.

    Args:
        loader: What VISSL built: a `torch.utils.data.DataLoader`, or a wrapper of one, with
            ``dataloader``, that copies batches to a GPU.
        give_way: Whether its processes let others have the cores first.

    Returns:
        Such a loader, of the same samples in the same order; the one that came in where it starts
        no processes.
    """
    if not isinstance(loader, DataLoader):
        return type(loader)(lasting(loader.dataloader, give_way=give_way))
    if not loader.num_workers:
        return loader
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=loader.sampler,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        timeout=loader.timeout,
        worker_init_fn=Beginning(give_way, loader.worker_init_fn),
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=True,
    )


def draw_seed() -> None:
    """Draws what a data loader draws of PyTorch's random numbers when its processes start.

    Reproducibility: a training that goes on from an epoch's end starts processes where an
    unbroken one goes on with its own, and both have to come to the same numbers.
    """
    torch.empty((), dtype=torch.int64).random_()
