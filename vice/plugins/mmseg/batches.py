"""Train batches that are the same on one process and on several."""

from __future__ import annotations

from collections.abc import Iterator
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
    """

    first = 0

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
