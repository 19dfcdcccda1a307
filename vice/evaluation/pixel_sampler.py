"""Uniform sampling of the pixels of many images, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from vice.errors import UserError
from vice.labels import IGNORE
from vice.runtime.collectives import rank, world_size

#: The threshold is lowered after this part of the budget has come in.
_TIGHTENED = 8


class PixelSampler:
    """Draws ``budget`` pixels uniformly without replacement from all pixels of all images.

    Each pixel gets a random key that depends on the seed, the image's index and its place alone;
    the pixels with the smallest keys are kept. So the sample does not depend on the order or
    grouping of the images, samplers of several processes can be merged, and only the embeddings
    of pixels that may stay are ever computed at image resolution.

    Attributes:
        budget: Most pixels kept.
        seen: Pixels offered so far.

    Args:
        budget: Number of pixels, at least 1.
        seed: Fixes the sample.
        positions: Whether vectors get two more entries, x and y of the pixel's center as shares of
            the image's width and height; a label comes after them.
        images: Whether vectors get the number of their image as one more entry, before any other;
            whole up to 2^24.
    """

    def __init__(
        self, budget: int, seed: int = 0, *, positions: bool = False, images: bool = False
    ) -> None:
        if budget < 1:
            raise UserError(f"the pixel budget must be at least 1, not {budget}")
        self.budget = budget
        self.seen = 0
        self._seed = seed
        self._positions, self._images = positions, images
        self._threshold = np.inf
        self._fresh = 0
        self._keys: list[np.ndarray] = []
        self._vectors: list[Tensor] = []

    def add(
        self,
        embedding: Tensor,
        size: tuple[int, int],
        index: int,
        labels: Tensor | None = None,
    ) -> None:
        """Offers all pixels of one image, or all that have a label.

        Args:
            embedding: (D, h, w), at the stride of the model.
            size: (H, W) of the image; the embedding is upsampled to it bilinearly.
            index: Number of the image in its data set.
            labels: Integer (H, W). Pixels of 255 are not offered; the vectors of the others get
                their label as one more, last entry.
        """
        keys = np.random.default_rng([self._seed, index]).random(size[0] * size[1])
        if labels is not None:
            keys[labels.flatten().cpu().numpy() == IGNORE] = np.inf
        self.seen += int(np.isfinite(keys).sum())
        if len(keys) > self.budget:
            # Of one image, too, no more than the smallest can stay.
            self._limit(np.partition(keys, self.budget - 1)[self.budget - 1])
        chosen = np.flatnonzero(keys < self._threshold)
        if len(chosen) == 0:
            return
        pixels = torch.from_numpy(chosen)
        vectors = sample_bilinear(embedding, size, pixels).cpu()
        if self._images:
            number = vectors.new_full((len(vectors), 1), index)
            vectors = torch.cat([vectors, number], 1)
        if self._positions:
            vectors = torch.cat([vectors, normalized_positions(pixels, size).to(vectors)], 1)
        if labels is not None:
            classes = labels.flatten().cpu()[pixels].to(vectors)
            vectors = torch.cat([vectors, classes[:, None]], 1)
        self._keys.append(keys[chosen])
        self._vectors.append(vectors)
        self._fresh += len(chosen)
        if sum(map(len, self._keys)) >= 2 * self.budget:
            self._prune()
        elif self._fresh >= self.budget // _TIGHTENED:
            self._tighten()

    def merge(self, other: PixelSampler) -> None:
        """Adds the sample of another sampler of the same seed and budget over other images."""
        self._keys += other._keys
        self._vectors += other._vectors
        self.seen += other.seen
        self._prune()

    def gather(self, group: Any = None) -> None:
        """Merges the samples of all ranks into that of rank 0; the others' are given up.

        They come one after another, so rank 0 holds no more than two samples at a time.

        Args:
            group: Process group that takes tensors of the CPU; None is the default group.
        """
        for source in range(1, world_size(group)):
            if rank(group) == source:
                self._send(group)
                self._keys, self._vectors = [], []
            elif rank(group) == 0:
                self.merge(self._receive(source, group))

    def vectors(self) -> Tensor:
        """The sample.

        Returns:
            (min(budget, seen), D), in the order of the random keys, on the CPU.

        Raises:
            UserError: No pixel was offered.
        """
        if not self._vectors:
            raise UserError(
                "no pixels to sample from: the split has no images, or none with a labelled pixel"
            )
        self._prune()
        return self._vectors[0]

    def _send(self, group: Any) -> None:
        self._prune()
        has_pixels = bool(self._keys)
        size = [*(self._vectors[0].shape if has_pixels else (0, 0)), self.seen]
        dist.send(torch.tensor(size), group=group, group_dst=0)
        if has_pixels:
            dist.send(torch.from_numpy(self._keys[0]), group=group, group_dst=0)
            dist.send(self._vectors[0].float(), group=group, group_dst=0)

    def _receive(self, source: int, group: Any) -> PixelSampler:
        other = PixelSampler(self.budget, self._seed)
        size = torch.empty(3, dtype=torch.int64)
        dist.recv(size, group=group, group_src=source)
        count, dim, other.seen = size.tolist()
        if count:
            keys, vectors = torch.empty(count, dtype=torch.float64), torch.empty(count, dim)
            dist.recv(keys, group=group, group_src=source)
            dist.recv(vectors, group=group, group_src=source)
            other._keys, other._vectors = [keys.numpy()], [vectors]
        return other

    def _tighten(self) -> None:
        """Lowers what keys have to stay below, without going through the vectors."""
        self._fresh = 0
        keys = np.concatenate(self._keys)
        if len(keys) > self.budget:
            self._limit(np.partition(keys, self.budget - 1)[self.budget - 1])

    def _limit(self, largest: float) -> None:
        """So many keys are at most this large that no larger one can stay."""
        self._threshold = min(self._threshold, float(np.nextafter(largest, np.inf)))

    def _prune(self) -> None:
        if not self._keys:
            return
        keys, vectors = np.concatenate(self._keys), torch.cat(self._vectors)
        order = np.argsort(keys, kind="stable")[: self.budget]
        self._keys, self._vectors = [keys[order]], [vectors[torch.from_numpy(order)]]
        self._fresh = 0
        if len(order) == self.budget:
            self._threshold = float(keys[order[-1]])


def normalized_positions(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Centers of pixels as shares of the image's width and height.

    Args:
        pixels: int64 (N,), flat indices into (H, W).
        size: (H, W).

    Returns:
        float32 (N, 2), x and y in (0, 1).
    """
    height, width = size
    x, y = pixels % width, pixels // width
    return torch.stack([(x + 0.5) / width, (y + 0.5) / height], 1).float()


def sample_bilinear(embedding: Tensor, size: tuple[int, int], pixels: Tensor) -> Tensor:
    """Single pixels of a bilinearly upsampled embedding.

    Args:
        embedding: (D, h, w).
        size: (H, W) it would be upsampled to (align_corners=False).
        pixels: int64 (N,), flat indices into (H, W).

    Returns:
        (N, D), what ``F.interpolate`` gives at these pixels.
    """
    height, width = size
    pixels = pixels.to(embedding.device)
    y = (2 * (pixels // width) + 1).to(embedding.dtype) / height - 1
    x = (2 * (pixels % width) + 1).to(embedding.dtype) / width - 1
    grid = torch.stack([x, y], -1)[None, None]
    sampled = F.grid_sample(
        embedding[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled[0, :, 0].T.contiguous()
