"""What a method is given to work with: the images, and the training around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn


class Stopped(BaseException):
    """The training was asked to stop; raised on all ranks by `Context.run` and `Context.check`."""


class Source(Protocol):
    """The images of a training, read where they are asked for; indices run from 0 to its length."""

    #: Of the run, and of the epoch that is read for, from 0: what is drawn by these and an index
    #: alone is the same in every pass of an epoch.
    seed: int
    epoch: int
    #: `Context.folder`: what a method has left there in `Method.before_workers` can be read.
    folder: Path

    def __len__(self) -> int: ...

    def path(self, index: int) -> str: ...  # noqa: D102

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB, of standardized size."""

    def kept(self, index: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """What ``make`` gives for an image, (H, W) uint8, which is the same whenever it is called.

        It may be kept, so that it is called once.
        """

    def image_and_regions(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The same with its superpixels, (H, W) int32."""

    def image_and_objects(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The same with the numbers of its objects, (H, W) uint8, 0 for background."""


class Context(Protocol):
    """What a method may use between steps. Every rank makes the same calls in the same order."""

    embedder: nn.Module
    head: nn.Module
    device: torch.device
    #: Of the run, of the whole training, and of the epoch that begins or goes on, from 0.
    seed: int
    num_images: int
    epoch: int
    #: What tells the list of images from another, wherever it lies.
    images: str
    #: Where a method keeps files; every node sees it.
    folder: Path

    def run(
        self,
        read: Callable[[Source, int], Any],
        batch_size: int,
        order: Sequence[int] | None = None,
    ) -> Iterator[list[tuple[int, Any]]]:
        """Every image once: of each batch over all ranks, this rank's (index, what was read).

        ``read`` runs in workers. Images that cannot be used are left out, counted and named.
        """

    def reset_optimizer(self, parameters: Iterable[nn.Parameter]) -> None:
        """Forgets what the optimizer has gathered about these (momentum and the like)."""

    def check(self) -> None:
        """Raises `Stopped` on all ranks once one was asked to stop; for long work between runs."""
