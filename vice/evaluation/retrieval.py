"""Dense nearest-neighbour retrieval: an image is labelled by the train patches most like its own.

Nothing is fitted. A memory holds unit vectors of patches of train images with their soft labels
(the share of each class among a patch's pixels); a patch of a scored image gets the weighted mean
of its nearest neighbours' labels. The search is exact.

Source: Balazevic et al., "Towards In-Context Scene Understanding" (NeurIPS 2023), as the public
harness open-hummingbird-eval 2.0 carries it out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vice.errors import UserError
from vice.labels import IGNORE
from vice.neighbours import nearest_neighbours, search_bytes
from vice.runtime.collectives import from_each_rank

#: Query vectors whose neighbours' labels are gathered at once.
_QUERIES = 1024
#: Query vectors of the trial that tells how long a search will take; a GPU needs many to be busy.
_TRIAL = {"cpu": 64, "cuda": 1024}


def to_patches(embedding: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
    """Unit vectors of the patches of images.

    Args:
        embedding: (B, D, h, w).
        grid: Rows and columns of the patches, each a divisor of h and w; a patch is the mean of
            the unit vectors in it. None: every cell is a patch.

    Returns:
        float32 (B, D, rows, columns), of unit length over D (zero vectors stay zero).

    Raises:
        UserError: The cells cannot be shared evenly among the patches.
    """
    unit = F.normalize(embedding.float(), dim=1, eps=1e-12)
    cells = (int(embedding.shape[2]), int(embedding.shape[3]))
    if grid is None or grid == cells:
        return unit
    if cells[0] % grid[0] or cells[1] % grid[1]:
        raise UserError(
            f"retrieval_grid=patch: the embedding's {cells[0]} x {cells[1]} cells cannot be shared "
            f"evenly among {grid[0]} x {grid[1]} patches: set retrieval_grid=native, or "
            "retrieval_patch (and size) so that patches are whole cells"
        )
    return F.normalize(F.adaptive_avg_pool2d(unit, grid), dim=1, eps=1e-12)


def patch_grid(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """Rows and columns of patches of ``patch`` pixels that cover an image of (H, W) pixels."""
    return -(-size[0] // patch), -(-size[1] // patch)


def count_labels(label: Tensor, grid: tuple[int, int], num_classes: int, ignored: str) -> Tensor:
    """How many pixels of each class lie in each patch.

    Args:
        label: Integer (H, W), 255 = ignored. A patch is what falls to it when the map is divided
            evenly into rows and columns, whatever its size.
        grid: Rows and columns of the patches.
        num_classes: Number of classes C.
        ignored: ``"class0"``: ignored pixels count as class 0; ``"left_out"``: not at all.

    Returns:
        int64 (rows · columns, C).
    """
    label = label.cpu().long()
    rows, columns = (
        torch.arange(length) * cells // length
        for length, cells in zip(label.shape, grid, strict=True)
    )
    patches = (rows[:, None] * grid[1] + columns).flatten()
    classes = label.flatten()
    if ignored == "class0":
        classes = classes.masked_fill(classes == IGNORE, 0)
    counted = classes != IGNORE
    flat = patches[counted] * num_classes + classes[counted]
    cells = grid[0] * grid[1]
    return torch.bincount(flat, minlength=cells * num_classes).view(cells, num_classes)


def choose_patches(counts: Tensor, number: int, noise: np.ndarray) -> np.ndarray:
    """Patches of one image that go into the memory; those of rare classes are favoured.

    A class's frequency is the number of the image's patches that hold it; the score of a patch is
    the sum of its classes' frequencies times a uniform random number. The lowest are kept.

    Args:
        counts: int64 (P, C), see `count_labels`.
        number: How many to keep; patches without a counted pixel are never kept.
        noise: float64 (P,) in [0, 1).

    Returns:
        Their numbers, int64 (at most ``number``,), ascending.
    """
    holds = (counts > 0).numpy().astype(np.int64)
    scores = (holds @ holds.sum(0)) * noise
    scores[holds.sum(1) == 0] = np.inf
    lowest = np.argsort(scores, kind="stable")[:number]
    return np.sort(lowest[np.isfinite(scores[lowest])])


@dataclass(frozen=True)
class RetrievalMemory:
    """Labelled patches, and the labels that others get from them.

    Attributes:
        vectors: float32 (M, D), of unit length.
        labels: float32 (M, C), the share of each class among a patch's pixels.
        neighbours: Neighbours k that are asked; all where the memory holds fewer.
        temperature: Of the softmax over the neighbours' cosines.
    """

    vectors: Tensor
    labels: Tensor
    neighbours: int = 30
    temperature: float = 0.02

    def __len__(self) -> int:
        return len(self.vectors)

    def classify(self, queries: Tensor) -> Tensor:
        """Soft labels of vectors.

        Args:
            queries: (Q, D), of unit length.

        Returns:
            float32 (Q, C), on the memory's device; each row sums to 1.

        Raises:
            UserError: Vectors of another width than the memory's.
        """
        if queries.shape[1] != self.vectors.shape[1]:
            raise UserError(
                f"vectors of {queries.shape[1]} dimensions cannot be compared with a memory of "
                f"{self.vectors.shape[1]}"
            )
        queries = queries.to(self.vectors)
        k = min(self.neighbours, len(self))
        pieces = []
        for piece in queries.split(_QUERIES):
            cosines, indices = nearest_neighbours(piece, self.vectors, k)
            weights = (cosines / self.temperature).softmax(1)
            pieces.append(torch.einsum("qk,qkc->qc", weights, self.labels[indices]))
        return torch.cat(pieces)

    def to(self, device: str | torch.device) -> RetrievalMemory:
        """The same memory on a device."""
        values = {"vectors": self.vectors.to(device), "labels": self.labels.to(device)}
        return RetrievalMemory(**values, **self._rules())

    def seconds_for(self, queries: int) -> float:
        """About how long it takes to classify so many vectors, from a trial of a few."""
        trial = self.vectors[: _TRIAL.get(self.vectors.device.type, 64)]
        # Warm-up: the first call of a shape loads what it runs.
        self.classify(trial).sum().item()
        start = time.monotonic()
        # Synchronization: reading a value waits for a GPU.
        self.classify(trial).sum().item()
        return (time.monotonic() - start) * queries / len(trial)

    def describe(self) -> dict[str, Any]:
        """What a result says of the memory."""
        return {
            "vectors": len(self),
            "dim": self.vectors.shape[1],
            "bytes": memory_bytes(len(self), self.vectors.shape[1], self.labels.shape[1]),
            **self._rules(),
            "neighbours_asked": min(self.neighbours, len(self)),
        }

    def _rules(self) -> dict[str, Any]:
        names = ("neighbours", "temperature")
        return {name: getattr(self, name) for name in names}


def memory_bytes(vectors: int, dim: int, num_classes: int) -> int:
    """Bytes of a memory and of the search in it."""
    return vectors * (dim + num_classes) * 4 + search_bytes()


class MemorySampler:
    """Fills a memory, image by image.

    What is chosen of an image depends on the seed, its number and itself alone, so that the memory
    depends neither on the order of the images nor on how processes share them.

    Attributes:
        each: Most patches of an image, max(1, budget // images).

    Args:
        budget: Number of vectors M that is aimed at.
        images: Number of images.
        num_classes: Number of classes C.
        seed: Fixes the choice.
        ignored: See `count_labels`.
    """

    def __init__(
        self, budget: int, images: int, num_classes: int, *, seed: int = 0, ignored: str = "class0"
    ) -> None:
        self.each = max(1, budget // images)
        self._classes, self._seed, self._ignored = num_classes, seed, ignored
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._pixels, self._unlabelled, self._cells = 0, 0, 0

    def add(self, patches: Tensor, label: Tensor, index: int) -> None:
        """Offers one image.

        Args:
            patches: (D, rows, columns), see `to_patches`.
            label: Integer (H, W), 255 = ignored.
            index: Number of the image in its data set.
        """
        dim, rows, columns = patches.shape
        counts = count_labels(label, (rows, columns), self._classes, self._ignored)
        noise = np.random.default_rng([self._seed, index]).random(rows * columns)
        chosen = torch.from_numpy(choose_patches(counts, self.each, noise))
        vectors = patches.reshape(dim, -1).T[chosen.to(patches.device)].cpu()
        labels = counts[chosen].float()
        self._kept[index] = (vectors, labels / labels.sum(1, keepdim=True))
        self._pixels += label.numel()
        self._unlabelled += int((label == IGNORE).sum())
        self._cells += rows * columns

    def gather(self, group: Any = None) -> None:
        """Gives every rank the patches of all.

        Args:
            group: Process group that takes objects of the CPU; None is the default group.
        """
        own = (self._kept, [self._pixels, self._unlabelled, self._cells])
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        totals = np.zeros(3, np.int64)
        for others, counted in from_each_rank(own, group):
            kept |= others
            totals += counted
        self._kept = kept
        self._pixels, self._unlabelled, self._cells = totals.tolist()

    def describe(self) -> dict[str, Any]:
        """What a result says of the images, of all ranks after `gather`; ask before `memory`."""
        images = len(self._kept)
        return {
            "images": images,
            "patches_of_each": self.each,
            "images_with_fewer": sum(len(v) < self.each for v, _ in self._kept.values()),
            "cells": self._cells / max(1, images),
            "unlabelled": self._unlabelled / max(1, self._pixels),
        }

    def memory(self, **rules: Any) -> RetrievalMemory:
        """The memory, in the order of the images; the sampler is empty afterwards.

        Args:
            **rules: Further fields of `RetrievalMemory`.

        Raises:
            UserError: No patch was kept.
        """
        indices = sorted(self._kept)
        number = sum(len(self._kept[index][0]) for index in indices)
        if not number:
            raise UserError("no labelled patch to retrieve from: all pixels are ignored")
        vectors, labels = self._kept[indices[0]]
        # Filled in place: a second copy of the memory may not fit.
        all_vectors = torch.empty(number, vectors.shape[1])
        all_labels = torch.empty(number, labels.shape[1])
        start = 0
        for index in indices:
            vectors, labels = self._kept.pop(index)
            end = start + len(vectors)
            all_vectors[start:end], all_labels[start:end] = vectors, labels
            start = end
        return RetrievalMemory(all_vectors, all_labels, **rules)
