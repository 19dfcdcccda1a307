"""Mini-batch k-means with cumulative counts, over several processes, in bounded memory (PiCIE).

The first groups of points are clustered by Lloyd's algorithm; each further group moves the
centroids by the share that its points have in all that a cluster has seen. Points come as maps of
vectors; every process gives its part of each group, and the result is that of a single one up to
the order of summation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vice.errors import UserError
from vice.models.concepts import UNIT, Concepts
from vice.runtime.collectives import all_gather, all_reduce_, rank, world_size
from vice.runtime.device import to_device
from vice.runtime.vector_store import InMemory, OnDisk

logger = logging.getLogger(__name__)

#: Added to a cluster's count where it divides.
EPSILON = 1e-6
#: How far FAISS moves the halves of a cluster that it splits.
_SPLIT = 1 / 1024
#: Points that are compared at a time.
_CHUNK = 2**15
#: Most points of the initialization, unless told otherwise.
INIT_POINTS = 1_000_000


def assign(centroids: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid of each point by Euclidean distance, as a 1x1 convolution and argmax.

    Args:
        centroids: (K, D).
        points: (N, D), or maps (B, D, h, w).

    Returns:
        int64 (N,) or (B, h, w), the first of equally near ones; and ``|c|^2 - 2 p @ c`` of it, to
        which ``|p|^2`` is missing for the squared distance.
    """
    flat = points.T[None] if points.ndim == 2 else points.flatten(2)
    beyond = -centroids.square().sum(1)[None, :, None]
    # Fused: the product is written once, with the squares in it.
    scores = torch.baddbmm(beyond, (2 * centroids).expand(len(flat), -1, -1), flat)
    best, labels = scores.max(dim=1)
    shape = points.shape[:1] if points.ndim == 2 else (len(points), *points.shape[2:])
    return labels.view(shape), -best.view(shape)


@dataclass
class _Sums:
    """Sums over the points of a group, by cluster; float64."""

    vectors: Tensor
    counts: Tensor
    distance: Tensor

    @classmethod
    def none(cls, clusters: int, dim: int, device: torch.device) -> _Sums:
        zeros = (torch.zeros(n, dtype=torch.float64) for n in (clusters * dim, clusters, 1))
        vectors, counts, distance = (each.to(device) for each in zeros)
        return cls(vectors.view(clusters, dim), counts, distance)

    def add(self, centroids: Tensor, maps: Tensor) -> None:
        """Points of maps (B, D, n) with their nearest centroids; the same bits each time."""
        labels, beyond = assign(centroids, maps)
        # A product with zeros and ones: sums by index have no fixed order on a GPU.
        chosen = maps.new_zeros(len(maps), len(centroids), maps.shape[2])
        chosen.scatter_(1, labels[:, None], 1)
        self.vectors += (chosen @ maps.transpose(1, 2)).double().sum(0)
        self.counts += chosen.sum((0, 2), dtype=torch.float64)
        # Row-major: norms along what lies side by side in memory; strided ones take ten times as
        # long. Of maps that is points, of points that were kept one after the other dimensions.
        along = 1 if maps.stride(1) == 1 else 2
        squares = torch.linalg.vector_norm(maps, dim=along).double().square().sum()
        self.distance += (squares + beyond.sum(dtype=torch.float64)).clamp(min=0)

    def reduced(self) -> _Sums:
        """Over all ranks."""
        flat = torch.cat([self.vectors.flatten(), self.counts, self.distance])
        vectors, counts, distance = all_reduce_(flat).split(
            [self.vectors.numel(), len(self.counts), 1]
        )
        return _Sums(vectors.view_as(self.vectors), counts, distance)


def move(centroids: Tensor, counts: Tensor, sums: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """One mini-batch step: each cluster moves towards the mean of its new points.

    With ``m`` new points, ``n`` becomes ``n + m`` and the centroid ``(1 - eta) c + eta mean`` for
    ``eta = m / (n + 1e-6)``; clusters without new points stay.

    Args:
        centroids: (K, D).
        counts: float64 (K,), points that a cluster has seen.
        sums: float64 (K, D), sums of the new points.
        points: float64 (K,), how many new points.

    Returns:
        The new centroids, as the old ones, and counts.
    """
    counts = counts + points
    eta = (points / (counts + EPSILON))[:, None]
    mean = sums / points.clamp(min=1)[:, None]
    moved = (1 - eta) * centroids.double() + eta * mean
    return torch.where(points[:, None] > 0, moved, centroids.double()).to(centroids.dtype), counts


class MiniBatchKMeans:
    """Mini-batch k-means over maps of vectors that come in groups.

    Every process calls `add` for its maps of a group, `end_group` after each group, and `finish`
    after the last: the same number of groups, of which each process may hold any part.

    Args:
        clusters: K.
        dim: D.
        init_groups: Groups that Lloyd's algorithm starts from.
        update_groups: Groups between two moves of the centroids; a last incomplete one is dropped.
        iterations: Iterations of Lloyd's algorithm.
        init_points: About how many points of the first groups are kept for it, in memory, the same
            number of each map, drawn by the map's key: *not exact*. None keeps all, on the disk.
        init_maps: How many maps of all ranks the first groups hold at most.
        seed: Fixes which points are kept, the first centroids, and how empty clusters are split.
        device: Where the computing is done.
        scratch: Folder for the points of this process if all are kept; its file has no name.
        check: Called between iterations; may raise.

    Attributes:
        centroids: float32 (K, D) once the first groups are clustered; not of unit length.
        counts: float64 (K,), points that each has seen.
        exact: Whether all points of the first groups were used.

    Raises:
        ValueError: No scratch folder although all points are kept.

    Example:
        >>> import torch
        >>> from vice.minibatch_kmeans import MiniBatchKMeans
        >>> maps = torch.tensor([[[0.0, 0.0, 4.0, 4.0]], [[1.0, 1.0, 5.0, 5.0]]])[..., None]
        >>> kmeans = MiniBatchKMeans(2, 1, init_groups=1, init_maps=2)
        >>> kmeans.add(maps, keys=[0, 1])
        >>> kmeans.end_group()
        >>> kmeans.finish()
        >>> sorted(kmeans.centroids.flatten().tolist()), round(kmeans.loss, 4)
        ([0.5, 4.5], 0.25)
    """

    def __init__(
        self,
        clusters: int,
        dim: int,
        *,
        init_groups: int,
        init_maps: int,
        update_groups: int = 1,
        iterations: int = 20,
        init_points: int | None = INIT_POINTS,
        seed: int = 0,
        device: torch.device | str = "cpu",
        scratch: str | Path | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        if init_points is None and scratch is None:
            raise ValueError("all points are kept on the disk: scratch names the folder")
        self.clusters, self.dim, self.iterations = clusters, dim, iterations
        self.init_groups, self.update_groups = init_groups, update_groups
        self.seed, self.check = seed, check
        self.device = torch.device(device)
        self.each = None if init_points is None else max(1, -(-init_points // max(init_maps, 1)))
        self._kept = (
            OnDisk(str(scratch), dim, -(-init_maps // world_size()))
            if self.each is None
            else InMemory()
        )
        self.exact = True
        self.centroids = torch.empty(0, dim, device=self.device)
        self.counts = torch.empty(0, dtype=torch.float64, device=self.device)
        self._sums = _Sums.none(clusters, dim, self.device)
        self._seen = 0
        self._groups = 0
        self._ends: list[int] = []
        # Read when it is asked for: reading waits for a GPU.
        self._losses: list[Tensor] = []

    @property
    def fitted(self) -> bool:
        """Whether there are centroids."""
        return len(self.centroids) > 0

    @property
    def loss(self) -> float:
        """Mean over groups of the mean squared distance to the nearest centroid of that time."""
        return float(torch.cat(self._losses).mean()) if self._losses else 0.0

    def concepts(self) -> Concepts:
        """Pixels belong to the centroid of greatest inner product with their direction (PiCIE)."""
        return Concepts(self.centroids, space=UNIT, name="centroids")

    @torch.no_grad()
    def add(self, maps: Tensor | Sequence[Tensor], keys: Sequence[int]) -> None:
        """Maps of this process in the group.

        Args:
            maps: Each (D, h, w), or (D, n), on the device.
            keys: A number of each map, by which its kept points are drawn: not its position in a
                rank's part, which depends on how many ranks there are.
        """
        if self.fitted:
            batches: list[Tensor] = [each[None] for each in maps]
            if torch.is_tensor(maps):
                batches = [maps]
            for batch in batches:
                self._sums.add(self.centroids, batch.flatten(2).float())
            return
        for vectors, key in zip(maps, keys, strict=True):
            points = vectors.flatten(1).T.float()
            self._seen += len(points)
            self._kept.append(self._draw(points, key))

    def _draw(self, points: Tensor, key: int) -> Tensor:
        if self.each is None or len(points) <= self.each:
            return points
        self.exact = False
        rng = np.random.default_rng([self.seed, key])
        kept = np.sort(rng.permutation(len(points))[: self.each])
        return points[to_device(kept, points.device)]

    @torch.no_grad()
    def end_group(self) -> None:
        """After all ranks' maps of a group."""
        self._groups += 1
        if not self.fitted:
            self._ends.append(len(self._kept))
            if self._groups == self.init_groups:
                self._initialize()
        elif (self._groups - self.init_groups) % self.update_groups == 0:
            sums = self._sums.reduced()
            self._losses.append(sums.distance / sums.counts.sum().clamp(min=1))
            self.centroids, self.counts = move(
                self.centroids, self.counts, sums.vectors, sums.counts
            )
            self._sums = _Sums.none(self.clusters, self.dim, self.device)

    def finish(self) -> None:
        """After the last group; of fewer groups than wanted, all are the first ones.

        Raises:
            UserError: Fewer points than clusters.
        """
        if not self.fitted:
            self._initialize()

    def _initialize(self) -> None:
        used, seen, exact = self._sizes()
        self.exact = exact
        logger.info(
            "k-means: %d clusters start from %d%s vectors of %d dimensions%s",
            self.clusters, used, "" if exact else f" of {seen}", self.dim,
            "" if exact else " (not exact: a sample)",
        )  # fmt: skip
        centroids = self._first(used)
        for iteration in range(self.iterations):
            self.check()
            rng = np.random.default_rng([self.seed, iteration])
            centroids = _means(self._sums_of_kept(centroids), centroids, rng)
        sums = self._sums_of_kept(centroids)
        self.centroids = centroids
        # A sample stands for all points that were seen.
        self.counts = sums.counts * (seen / used)
        self._losses.append(sums.distance / sums.counts.sum())
        self._kept = InMemory()

    def _sizes(self) -> tuple[int, int, bool]:
        mine = [len(self._kept), self._seen, int(not self.exact)]
        used, seen, sampled = all_reduce_(torch.tensor(mine, device=self.device)).tolist()
        if used < self.clusters:
            raise UserError(
                f"{used} vectors cannot make {self.clusters} clusters: ask for fewer clusters or "
                "give more images"
            )
        return used, seen, sampled == 0

    def _sums_of_kept(self, centroids: Tensor) -> _Sums:
        sums = _Sums.none(self.clusters, self.dim, self.device)
        for points in self._kept.parts():
            for part in points.to(self.device).split(_CHUNK):
                sums.add(centroids, part.T[None])
        return sums.reduced()

    def _first(self, used: int) -> Tensor:
        """Points drawn at random, none twice; numbered over groups, then ranks, in their order."""
        drawn = np.random.default_rng(self.seed).permutation(used)[: self.clusters]
        ends = torch.tensor([0, *self._ends], device=self.device)
        sizes = torch.stack(all_gather(ends.diff()), dim=1)  # (groups, ranks)
        before = (sizes.flatten().cumsum(0) - sizes.flatten()).view_as(sizes)[:, rank()]
        found = torch.zeros(self.clusters, self.dim, device=self.device)
        # What a rank has of a group lies together in both numberings.
        for start, own, end in zip(
            before.tolist(), ends[:-1].tolist(), ends[1:].tolist(), strict=True
        ):
            for k in np.flatnonzero((drawn >= start) & (drawn < start + end - own)):
                found[k] = self._kept.point(own + int(drawn[k]) - start).to(self.device)
        return all_reduce_(found)


def _means(sums: _Sums, centroids: Tensor, rng: np.random.Generator) -> Tensor:
    """Means of the clusters; an empty one takes half of another, as in FAISS.

    That one is drawn by its size; the two halves start a little apart.
    """
    means = torch.where(
        sums.counts[:, None] > 0,
        sums.vectors / sums.counts.clamp(min=1)[:, None],
        centroids.double(),
    )
    sizes = sums.counts.cpu().numpy().copy()
    sign = torch.ones(means.shape[1], dtype=means.dtype, device=means.device)
    sign[1::2] = -1
    for empty in np.flatnonzero(sizes == 0):
        chances = (sizes - 1).clip(min=0)
        if not chances.sum():
            break
        full = int(rng.choice(len(sizes), p=chances / chances.sum()))
        means[empty] = means[full] * (1 + _SPLIT * sign)
        means[full] = means[full] * (1 - _SPLIT * sign)
        sizes[empty] = sizes[full] // 2
        sizes[full] -= sizes[empty]
    return means.to(centroids.dtype)
