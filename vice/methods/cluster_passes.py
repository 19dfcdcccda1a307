"""Passes over all images between epochs: k-means on the embeddings, then the nearest centroids."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vice.labels import IGNORE
from vice.methods.cluster_views import (
    DrawnViews,
    PlainSquare,
    ViewReader,
    collate_views,
    finish_views,
    pinned,
    stack_pixels,
    to_network,
)
from vice.methods.context import Context
from vice.methods.label_maps import LabelWriter
from vice.minibatch_kmeans import MiniBatchKMeans, assign
from vice.normalize import normalize
from vice.runtime.collectives import all_reduce_, world_size
from vice.views.feature_crop import crop_resize
from vice.views.keyed import STRIDE, Geometry, order_of

#: Threads that collate ahead of a GPU; a CPU has its cores for the network.
_THREADS = 4
#: Images that go through the network at a time, and what was drawn of them.
Piece = tuple[list[int], dict[str, Any]]
#: Centroids of each label set and view.
Fits = list[list[MiniBatchKMeans]]


class ClusterPasses:
    """The passes before an epoch.

    Args:
        context: Of the method.
        options: `vice.methods.cluster_labels.ClusterOptions`.
        views: 1 or 2.
    """

    def __init__(self, context: Context, options: Any, views: int) -> None:
        self.context, self.options, self.views = context, options, views
        self.cells = options.view_side // STRIDE
        self.read = ViewReader(options, views)
        self.order = order_of(context.seed, context.epoch, context.num_images)

    def fit(self, label_sets: Sequence[int]) -> Fits:
        """K-means of each label set and view, over all images.

        With running statistics one pass serves all views; with a batch's own each view has a pass,
        since it moves the running ones.
        """
        fits = [[self._kmeans(count) for _ in range(self.views)] for count in label_sets]
        everything = list(range(self.views))
        with self._mode(self.options.kmeans_bn):
            together = self.options.kmeans_bn == "eval"
            for views in [everything] if together else [[view] for view in everything]:
                self._fit(fits, views)
        return fits

    def _fit(self, fits: Fits, views: Sequence[int]) -> None:
        own = [(view, sets[view]) for sets in fits for view in views]
        parts = self._run(self.read)
        for _, pieces in self._collated(parts, self.options.kmeans_bn == "train"):
            for images, collated in pieces:
                vectors = self._embed(collated, views)
                for view, kmeans in own:
                    kmeans.add(vectors[view], images)
            for _, kmeans in own:
                kmeans.end_group()
        for _, kmeans in own:
            kmeans.finish()

    def fit_whole(self, clusters: int) -> MiniBatchKMeans:
        """K-means on the images as they are scored: whole, without changes of color."""
        kmeans = self._kmeans(clusters)
        with self._mode(self.options.kmeans_bn):
            for part in self._run(PlainSquare(self.options.view_side)):
                for images, pixels in self._pieces(part, self.options.kmeans_bn == "train"):
                    shown = to_network(stack_pixels(pixels), self.context.device)
                    kmeans.add(_units(self.context.embedder(normalize(shown / 255))), images)
                kmeans.end_group()
        kmeans.finish()
        return kmeans

    def label(self, fits: Fits, path: Path, old: np.ndarray | None) -> tuple[list[Tensor], float]:
        """Writes the labels of all images.

        Args:
            fits: What `fit` returns.
            path: File for (N, S, V, g, g) uint8.
            old: The same of the epoch before, if it is known.

        Returns:
            Of each set the shares of its labels, float64 (V, K); and the share of cells in both
            epochs' first views whose label is not the one that most cells of their old label have.
        """
        device = self.context.device
        counts = [
            torch.zeros(self.views, sets[0].clusters, dtype=torch.int64, device=device)
            for sets in fits
        ]
        moved = torch.zeros(IGNORE + 1, IGNORE + 1, dtype=torch.int64)
        shape = (self.context.num_images, len(fits), self.views, self.cells, self.cells)
        most = -(-self.options.kmeans_images // world_size())
        writer = LabelWriter(path, shape, most, self.context.device)
        try:
            with self._mode("eval"):
                for images, pieces in self._collated(self._run(self.read)):
                    labels = self._label(pieces, fits)
                    writer.add(images, labels)
                    for s, count in enumerate(counts):
                        for view in range(self.views):
                            found = labels[:, s, view].flatten().long()
                            count[view].scatter_add_(0, found, torch.ones_like(found))
                    if old is not None:
                        self._compare(moved, images, labels[:, 0, 0].cpu().numpy(), old)
            writer.finish()
        except BaseException:
            writer.give_up()
            raise
        totals = [all_reduce_(count).double() for count in counts]
        table = all_reduce_(moved.to(device))[:IGNORE, :IGNORE].double()
        known = float(table.sum())
        changed = 1 - float(table.amax(1).sum()) / known if known else 1.0
        return [each / each.sum(1, keepdim=True).clamp(min=1) for each in totals], changed

    def _label(self, pieces: Iterator[Piece], fits: Fits) -> Tensor:
        """Labels of a part, uint8 (n, S, V, g, g)."""
        labels = [
            torch.zeros(
                0, len(fits), self.views, self.cells, self.cells, dtype=torch.uint8,
                device=self.context.device,
            )
        ]  # fmt: skip
        for _, collated in pieces:
            vectors = self._embed(collated, range(self.views))
            sets = [
                torch.stack([assign(sets[v].centroids, vectors[v])[0] for v in vectors], dim=1)
                for sets in fits
            ]
            labels.append(torch.stack(sets, dim=1).byte())
        return torch.cat(labels)

    def _compare(
        self, moved: Tensor, images: Sequence[int], labels: np.ndarray, old: np.ndarray
    ) -> None:
        """Counts (old label, new label) of the cells that both epochs' first views show."""
        seed, epoch = self.context.seed, self.context.epoch
        for image, new in zip(images, labels, strict=True):
            now = Geometry.draw(seed, epoch, image, self.options).on_base(new, IGNORE)
            before = Geometry.draw(seed, epoch - 1, image, self.options)
            then = before.on_base(np.asarray(old[image, 0, 0]), IGNORE)
            pairs = then.astype(np.int64) * (IGNORE + 1) + now
            counts = np.bincount(pairs.ravel(), minlength=moved.numel())
            moved += torch.from_numpy(counts).view_as(moved)

    def _kmeans(self, clusters: int) -> MiniBatchKMeans:
        context, options = self.context, self.options
        return MiniBatchKMeans(
            clusters,
            context.head.centroids.shape[2],
            init_groups=options.init_batches,
            init_maps=min(context.num_images, options.init_batches * options.kmeans_images),
            update_groups=options.update_batches,
            iterations=options.kmeans_iterations,
            init_points=options.init_pixels,
            seed=context.seed,
            device=context.device,
            scratch=context.folder,
            check=context.check,
        )

    def _run(self, read: Any) -> Iterator[list[tuple[int, Any]]]:
        order: Any = self.order
        return self.context.run(read, self.options.kmeans_images, order)

    def _pieces(
        self, part: list[tuple[int, Any]], whole: bool = False
    ) -> Iterator[tuple[list[int], list[Any]]]:
        """Images and what was read of them, as many as go through the network at a time."""
        size = len(part) if whole else self.options.pass_images
        for start in range(0, len(part), max(size, 1)):
            piece = part[start : start + size]
            yield [image for image, _ in piece], [value for _, value in piece]

    def _collated(
        self, parts: Iterator[list[tuple[int, DrawnViews]]], whole: bool = False
    ) -> Iterator[tuple[list[int], Iterator[Piece]]]:
        """Images of each part, and its pieces collated, by threads that are a part ahead.

        It is ahead by parts, which all ranks have as many of, and not by pieces: whatever ranks do
        together between parts is then done in one order by all of them.
        """
        on_gpu = self.context.device.type == "cuda"

        def collate(piece: tuple[list[int], list[DrawnViews]]) -> Piece:
            collated = collate_views(piece[1])
            return piece[0], pinned(collated) if on_gpu else collated

        with ThreadPoolExecutor(_THREADS if on_gpu else 1) as pool:
            ready: tuple[list[int], deque[Future[Piece]]] | None = None
            for part in parts:
                pieces = deque(pool.submit(collate, piece) for piece in self._pieces(part, whole))
                if ready is not None:
                    yield ready[0], _results(ready[1])
                ready = [image for image, _ in part], pieces
            if ready is not None:
                yield ready[0], _results(ready[1])

    def _embed(self, collated: dict[str, Any], views: Sequence[int]) -> dict[int, Tensor]:
        """Unit embeddings (n, D, g, g) of views, the second's cut as the first."""
        found = {}
        inputs, cells, flips = finish_views(collated, self.context.device, self.options.view_side)
        for view in views:
            dense = self.context.embedder(inputs[view]).float()
            if view == 1:
                dense = crop_resize(dense, cells, flips, self.cells)
            found[view] = _units(dense)
        return found

    @contextmanager
    def _mode(self, statistics: str) -> Iterator[None]:
        """No gradients, and running batch statistics or a batch's own.

        A pass that is given up leaves no trace in the running ones.
        """
        embedder: nn.Module = self.context.embedder
        before = [buffer.clone() for buffer in embedder.buffers()]
        training = embedder.training
        embedder.train(statistics == "train")
        try:
            with torch.no_grad():
                yield
        except BaseException:
            for buffer, value in zip(embedder.buffers(), before, strict=True):
                buffer.copy_(value)
            raise
        finally:
            embedder.train(training)


def _units(dense: Tensor) -> Tensor:
    dense = dense.float()
    # Bound by memory: sums of squares read rows, the norm over channels would stride through them.
    return dense * dense.square().sum(1, keepdim=True).clamp(min=1e-24).rsqrt()


def _results(pieces: deque[Future[Piece]]) -> Iterator[Piece]:
    # Memory: what has been taken is not kept.
    while pieces:
        yield pieces.popleft().result()
