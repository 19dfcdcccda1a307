"""What PiCIE does between epochs, against the forward passes that it cannot do without."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from vice.experiments.benchmark.data import texture
from vice.experiments.benchmark.memory import peak_extra_bytes
from vice.experiments.benchmark.timing import Measurement, time_in_turn
from vice.methods import Source
from vice.methods.cluster_passes import ClusterPasses
from vice.methods.cluster_views import DrawnViews, ViewReader, collate_views, finish_views
from vice.methods.picie import PiCIE, PiCIEOptions
from vice.models import build_embedder

#: Of COCO's 194 batches k-means starts from 20; of their 5,120 images it keeps a million pixels.
_BATCHES, _KEPT_OF_AN_IMAGE = 10, 195
#: Images that are made.
_DIFFERENT = 64


class Textures:
    """Pictures of smooth noise; a `vice.methods.Source`.

    Args:
        count: How many.
        side: Their side, in pixels.
    """

    seed = epoch = 0
    folder = Path()

    def __init__(self, count: int, side: int) -> None:
        self.count, self.side = count, side

    def __len__(self) -> int:
        return self.count

    def path(self, index: int) -> str:
        """What there is to name."""
        return f"texture {index}"

    def image(self, index: int) -> np.ndarray:
        """(side, side, 3) uint8."""
        return texture(self.side, self.side, seed=index)

    def kept(self, index: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Nothing is kept."""
        del index
        return make()

    def image_and_regions(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Nobody asks for regions here."""
        raise NotImplementedError

    def image_and_objects(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Nor for objects."""
        raise NotImplementedError


class Epoch:
    """The passes of one epoch over images in memory; a `vice.methods.Context`.

    Args:
        device: Where it is computed.
        small: Whether views have 96 pixels instead of 320.
    """

    def __init__(self, device: str, *, small: bool) -> None:
        side, batch = (96, 4) if small or device == "cpu" else (320, 256)
        images = _BATCHES * batch
        self.options = PiCIEOptions(
            image_side=2 * side,
            view_side=side,
            kmeans_images=batch,
            init_batches=1,
            init_pixels=max(27, _KEPT_OF_AN_IMAGE * batch * side**2 // 320**2),
        )
        self.method = PiCIE(self.options, {})
        self.embedder = build_embedder("resnet18", "fpn", 128).to(device)
        self.note = f"{images} images, views of {side} pixels, {batch} images a batch"
        read, source = ViewReader(self.options, 2), Textures(images, 2 * side)
        # What they show takes no time; that they are many does.
        drawn = [read(source, index) for index in range(min(images, _DIFFERENT))]
        self.drawn = [drawn[index % len(drawn)] for index in range(images)]
        self.context: Any = SimpleNamespace(
            embedder=self.embedder,
            head=self.method.head(128).to(device),
            device=torch.device(device),
            seed=0,
            epoch=0,
            num_images=images,
            run=self.run,
            check=lambda: None,
        )
        self.inputs = [self._inputs(self.drawn[0 : self.pieces])]

    @property
    def pieces(self) -> int:
        """Images in a forward pass."""
        return min(self.options.pass_images, self.options.kmeans_images)

    def _inputs(self, samples: Sequence[DrawnViews]) -> list[torch.Tensor]:
        collated = collate_views(samples)
        return finish_views(collated, self.context.device, self.options.view_side)[0]

    def run(
        self, read: Callable[[Source, int], Any], batch_size: int, order: Sequence[int]
    ) -> Iterator[list[tuple[int, Any]]]:
        """Views that have been drawn before."""
        del read
        indices = [int(index) for index in order]
        for start in range(0, len(indices), batch_size):
            yield [(index, self.drawn[index]) for index in indices[start : start + batch_size]]

    def whole(self) -> None:
        """K-means of both views, then the labels of both."""
        with tempfile.TemporaryDirectory() as folder:
            self.context.folder = Path(folder)
            passes = ClusterPasses(self.context, self.options, 2)
            fits = passes.fit(self.method.label_sets)
            passes.label(fits, Path(folder) / "labels.npy", None)

    @torch.no_grad()
    def bare(self) -> None:
        """As many forward passes in evaluation mode: two views, twice."""
        self.embedder.eval()
        rounds = len(self.drawn) // self.pieces
        for _ in range(2 * rounds):
            for view in self.inputs[0]:
                self.embedder(view)

    @torch.no_grad()
    def one(self) -> None:
        """A forward pass."""
        self.embedder.eval()
        self.embedder(self.inputs[0][0])


def kmeans_epoch(device: str, *, small: bool) -> list[Measurement]:
    """K-means and labels of an epoch, images in memory, against their forward passes alone.

    Returns:
        The forward passes, and all of it with the memory that it takes beside the model's own.
    """
    epoch = Epoch(device, small=small)
    calls = {"forward passes alone": epoch.bare, "k-means and labels": epoch.whole}
    seconds = time_in_turn(calls, device=device, seconds=2 if small else 20)
    alone, whole = (seconds[name] for name in calls)
    extra = peak_extra_bytes(epoch.whole, device) - peak_extra_bytes(epoch.one, device)
    memory = f"{max(extra, 0) / 2**20:.0f} MiB more than a forward pass"
    return [
        Measurement("forward passes alone", alone, "themselves", 1.0, epoch.note),
        Measurement("k-means and labels", whole, "forward passes alone", whole / alone, memory),
    ]
