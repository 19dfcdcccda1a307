"""Train batches that are the same on one process and on several."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import all_reduce, get_world_size
from mmengine.registry import DATA_SAMPLERS
from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS


class Draw(NamedTuple):
    """One train sample: number of the image, and seed of everything random that is done to it."""

    image: int
    seed: tuple[int, int]


@DATA_SAMPLERS.register_module()
class NumberedSampler(InfiniteSampler):
    """MMEngine's endless shuffle, dealt to the ranks in turn, with each sample's own seed.

    The samples of a step are the same images with the same augmentation, however many ranks and
    data loading workers share them.

    Args:
        batch: Images of a step of all ranks: each pass leaves out those that make no whole batch.
            0 leaves out none, and a batch may reach over the end of a pass.
        **kwargs: What `InfiniteSampler` takes.
    """

    first = 0

    def __init__(self, *args: Any, batch: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.whole = self.size - self.size % batch if batch else self.size

    def _infinite_indices(self) -> Iterator[int]:
        """Endless passes over the images, each in its own order."""
        endless = super()._infinite_indices()
        while True:
            one_pass = list(islice(endless, self.size))
            yield from one_pass[: self.whole]

    def skip(self, num_samples: int) -> None:
        """Goes on after samples that an earlier run has seen, as MMEngine asks when it resumes."""
        super().skip(num_samples)
        self.first = num_samples

    def __iter__(self) -> Iterator[Draw]:
        """Yields what `vice.plugins.mmseg.dataset.ViceDataset` takes as an index."""
        for position, image in enumerate(super().__iter__(), self.first):
            yield Draw(image, (self.seed, position * self.world_size + self.rank))


@MODELS.register_module()
class EvenPreProcessor(SegDataPreProcessor):
    """Pads train images to the largest of the step on all ranks, as one process would.

    Padding can be seen by an embedder whose convolutions reach over it.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalises and stacks a batch, see `SegDataPreProcessor`."""
        if training and get_world_size() > 1:
            sizes = torch.tensor([image.shape[-2:] for image in data["inputs"]])
            largest = sizes.amax(0)
            all_reduce(largest, "max")
            self.size, self.size_divisor = tuple(largest.tolist()), None
        return super().forward(data, training)
