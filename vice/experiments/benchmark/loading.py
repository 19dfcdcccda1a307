"""How many images a second workers deliver, and how many a training step takes."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vice.experiments.benchmark.data import texture
from vice.experiments.benchmark.step import Setting, best_ways
from vice.experiments.benchmark.timing import Measurement, one_core, time_in_turn
from vice.images import read_image
from vice.superpixels import Superpixels
from vice.views import ViewSampler
from vice.views.batch import DrawnViews, ViewBatches
from vice.views.photometric import Photometric, PhotometricParams

WORKERS = (1, 2, 4, 8, 16)
#: Workers that are to keep a device busy.
FEEDERS = 8
#: Most images that a core works at, where it is alone.
ALONE = 16
#: Images a batch, as in a training step.
BATCH = 4
#: What is left to the device, and how that is said to `vice.views.batch.ViewBatches`.
LEFT: dict[str, dict[str, Any]] = {
    "nothing": {},
    "colours": {"change_on": "device"},
    "cut and colours": {"cut_on": "device", "change_on": "device"},
}


class Pictures(Dataset[Any]):
    """Views of JPEGs as a training's workers make them, each file over and over.

    Args:
        paths: Files.
        length: Samples.
        views: Draws views, as far as that is not left to the device.
        superpixels: Makes or reads region maps.
        on_device: What is left to it, one of ``LEFT``.
    """

    def __init__(
        self,
        paths: list[Path],
        length: int,
        views: ViewBatches,
        superpixels: Superpixels,
        on_device: str,
    ) -> None:
        self.paths, self.length, self.on_device = paths, length, on_device
        self.views, self.superpixels = views, superpixels

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> DrawnViews:
        """Decodes, finds regions, draws views and their change, and does what is not left."""
        image = read_image(self.paths[index % len(self.paths)])
        return self.views.draw(image, self.superpixels(image), np.random.default_rng(index))


def loading(device: str, *, small: bool) -> list[Measurement]:
    """Images a second from 1 to 16 workers, with less and less of the work on the workers.

    With a GPU the batches go there, and what is left of the work is done on it. The first rows
    compare what a core does for an image, in turn; the last ones hold a training step against
    what 8 workers deliver.
    """
    side, files, batches = (96, 8, 8) if small else (400, 64, 40)
    sampler = ViewSampler(num_views=2 if small else 5, size=side)
    setting = Setting(best_ways(device), device, small)
    with _pictures(files, (120, 160) if small else (480, 640)) as (paths, superpixels):
        ways = {
            on_device: (ViewBatches(sampler, Photometric(), **where), superpixels, on_device)
            for on_device, where in LEFT.items()
        }
        rows = _alone(
            {
                on_device: Pictures(paths[:ALONE], min(files, ALONE), *parts)
                for on_device, parts in ways.items()
            }
        )
        steps = []
        for on_device, parts in ways.items():
            single, fed = 0.0, 0.0
            for workers in WORKERS:
                # Steady state: what lies ready at the start or stays behind must weigh little.
                count = max(batches, 8 * workers)
                length = BATCH * (count + 4 * workers)
                each, size = _measure(Pictures(paths, length, *parts), workers, count, device)
                single = single or each
                fed = each if workers == FEEDERS else fed
                note = (
                    f"{single / each:.2f} times the images a second; {size / 2**20:.1f} MiB a batch"
                )
                if device != "cpu":
                    note += f"; {1 / each:.1f} images/s"
                label = f"an image, {on_device} left to the device, {workers} workers"
                rows.append(Measurement(label, each, "1 worker", each / single, note))
            steps.append(_step_against_loader(Pictures(paths, BATCH, *parts), fed, setting))
    return rows + steps


@one_core()
def _alone(ways: dict[str, Pictures]) -> list[Measurement]:
    """What an image takes a core before it is collated; each of the files once a call."""

    def all_of(pictures: Pictures) -> None:
        for index in range(len(pictures)):
            pictures[index]

    seconds = time_in_turn({on_device: partial(all_of, way) for on_device, way in ways.items()})
    first = next(iter(LEFT))
    whole = seconds[first]
    return [
        Measurement(
            f"an image on a core, {on_device} left to the device",
            taken / len(ways[on_device]),
            f"{first} left",
            taken / whole,
            f"{whole / taken:.2f} times the images a second",
        )
        for on_device, taken in seconds.items()
    ]


def _step_against_loader(pictures: Pictures, fed: float, setting: Setting) -> Measurement:
    """Demand of a step (no `torch.compile`, with what is left to its device) against 8 workers."""
    batch = pictures.views.collate([pictures[index] for index in range(BATCH)])
    device, images = torch.device(setting.device), batch["images"]
    # Asynchronous copy: in a training they are copied while the step before runs.
    whole = isinstance(images, list)
    batch["images"] = [each.to(device) for each in images] if whole else images.to(device)

    def step() -> None:
        pictures.views.finish(batch, device)
        setting.whole()

    taken = time_in_turn({"step": step}, device=setting.device)["step"] / setting.images
    note = "fed where the ratio is > 1"
    if setting.device != "cpu":
        note = f"{1 / taken:.1f} images/s wanted, {1 / fed:.1f} delivered; {note}"
    label = f"an image of a step, {pictures.on_device} left to it, {setting.label}"
    return Measurement(label, taken, f"{FEEDERS} workers", taken / fed, note)


@contextmanager
def _pictures(count: int, size: tuple[int, int]) -> Iterator[tuple[list[Path], Superpixels]]:
    """JPEGs of textures in a folder that goes away, and a cache that has their superpixels."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        superpixels = Superpixels(cache_dir=folder / "superpixels")
        paths = [folder / f"{number}.jpg" for number in range(count)]
        for number, path in enumerate(paths):
            Image.fromarray(texture(*size, seed=number)).save(path, quality=90)
            superpixels(read_image(path))
        yield paths, superpixels


def _measure(pictures: Pictures, workers: int, batches: int, device: str) -> tuple[float, int]:
    """Seconds an image once all workers run, and bytes of a batch that leave the workers."""
    loader: DataLoader[Any] = DataLoader(
        pictures,
        batch_size=BATCH,
        num_workers=workers,
        prefetch_factor=1,
        collate_fn=pictures.views.collate,
        pin_memory=device != "cpu",
        worker_init_fn=_one_thread,
    )
    iterator = iter(loader)
    # Steady state: beyond what was prefetched while the workers started.
    for batch in itertools.islice(iterator, 2 * workers):
        if device != "cpu":  # else its cores are the workers'
            pictures.views.finish(batch, torch.device(device))
    start = time.perf_counter()
    for batch in itertools.islice(iterator, batches):
        if device != "cpu":
            pictures.views.finish(batch, torch.device(device))
    if device != "cpu":
        torch.cuda.synchronize()
    taken = time.perf_counter() - start
    return taken / (batches * BATCH), _bytes_of(batch)


def _bytes_of(values: Any) -> int:
    """Of all tensors and arrays in a batch."""
    if isinstance(values, (Tensor, np.ndarray)):
        return int(values.nbytes)
    if isinstance(values, PhotometricParams):
        return _bytes_of(vars(values))
    nested = values.values() if isinstance(values, dict) else values
    return sum(map(_bytes_of, nested)) if isinstance(nested, Iterable) else 0


def _one_thread(number: int) -> None:
    import cv2

    del number
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
