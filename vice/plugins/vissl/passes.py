"""What a method works with between steps: passes over all images, and the parts of the training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info

from vice.images.lists import fingerprint_list
from vice.methods import Source, Stopped
from vice.plugins.vissl.dataset import UNUSABLE, Images
from vice.plugins.vissl.hooks.base import embedder_of, head_of
from vice.plugins.vissl.lasting_workers import Beginning
from vice.runtime.collectives import rank, world_size
from vice.runtime.preemption import Notice, ignore_job_signals

logger = logging.getLogger(__name__)


class _Read(Dataset[Any]):
    """Images as a method reads them; those that cannot be used come with the reason."""

    def __init__(self, images: Images, read: Callable[[Source, int], Any]) -> None:
        self.images = images
        self.read = read

    def __getitem__(self, index: int) -> tuple[int, Any, str]:
        if get_worker_info() is not None:
            ignore_job_signals()
        try:
            return index, self.read(self.images, index), ""
        except UNUSABLE as error:
            return index, None, self.images.refusal(index, error)


class TrainingContext:
    """A `vice.methods.Context` of one of VISSL's trainings.

    Args:
        task: The training.
        notice: Whether this process was asked to stop.
    """

    def __init__(self, task: Any, notice: Notice) -> None:
        self.task = task
        self.notice = notice
        self.embedder: nn.Module = embedder_of(task)
        self.head: nn.Module = head_of(task)
        self.device: torch.device = task.device
        self.seed = int(task.config["SEED_VALUE"])
        self.folder = Path(str(task.config["CHECKPOINT"]["DIR"]))
        self._images: Images = task.datasets["train"].data_objs[0].images
        self.num_images = len(self._images)
        self.images = fingerprint_list([Path(path) for path in self._images.paths])

    @property
    def epoch(self) -> int:
        """Of the epoch that begins or goes on, from 0."""
        return int(self.task.train_phase_idx)

    def run(
        self,
        read: Callable[[Source, int], Any],
        batch_size: int,
        order: Sequence[int] | None = None,
    ) -> Iterator[list[tuple[int, Any]]]:
        """As `vice.methods.Context.run`; the part of a rank is a contiguous piece of each batch."""
        images = self._images.at(self.epoch)
        indices = list(range(self.num_images)) if order is None else [int(index) for index in order]
        share = -(-batch_size // world_size())
        first = rank() * share
        # Global batches begin at each of these; the last ones may leave a rank nothing.
        parts = [
            indices[start : start + batch_size][first : first + share]
            for start in range(0, len(indices), batch_size)
        ]
        workers = int(self.task.config["DATA"]["NUM_DATALOADER_WORKERS"])
        start_method = self.task.config["MULTI_PROCESSING_METHOD"]
        loader = DataLoader(
            _Read(images, read),
            batch_sampler=parts,
            num_workers=workers,
            collate_fn=_as_it_is,
            multiprocessing_context=start_method if workers else None,
            worker_init_fn=Beginning(give_way=self.device.type == "cpu"),
            # RNG state: the training's own numbers stay what they would be without this pass.
            generator=torch.Generator().manual_seed(self.seed),
        )
        refused: list[str] = []
        for part in loader:
            self.check()
            refused += [reason for _, _, reason in part if reason]
            yield [(index, value) for index, value, reason in part if not reason]
        if refused:
            logger.warning(
                "%d of %d images were left out of a pass, the first one: %s",
                len(refused), len(indices), refused[0],
            )  # fmt: skip

    def reset_optimizer(self, parameters: Iterable[nn.Parameter]) -> None:
        """As `vice.methods.Context.reset_optimizer`."""
        for parameter in parameters:
            self.task.optimizer.optimizer.state.pop(parameter, None)

    def check(self) -> None:
        """As `vice.methods.Context.check`."""
        if self.notice.given_anywhere(self.device):
            raise Stopped


def _as_it_is(batch: list[Any]) -> list[Any]:
    return batch
