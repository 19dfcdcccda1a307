"""How many images a second workers deliver, and how many a training step takes."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vice.benchmark.data import texture
from vice.benchmark.step import WAYS, Setting
from vice.benchmark.timing import Row, time_in_turn
from vice.images import read_image
from vice.photometric import Photometric, PhotometricParams
from vice.superpixels import Superpixels
from vice.views import Views, ViewSampler

WORKERS = (1, 2, 4, 8, 16)
#: Images a batch, as in a training step.
BATCH = 4


class Pictures(Dataset[Any]):
    """Views of JPEGs, each file over and over, with other views each time.

    Args:
        paths: Files.
        length: Samples.
        sampler: Draws views.
        change: The photometric change.
        superpixels: Makes or reads region maps.
        on_worker: Whether the change is computed here, not only drawn.
    """

    def __init__(
        self,
        paths: list[Path],
        length: int,
        sampler: ViewSampler,
        change: Photometric,
        superpixels: Superpixels,
        on_worker: bool,
    ) -> None:
        self.paths, self.length, self.on_worker = paths, length, on_worker
        self.sampler, self.change, self.superpixels = sampler, change, superpixels

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Views, PhotometricParams, Tensor]:
        """Decodes, finds regions, cuts views, draws their change and, if asked, computes it."""
        rng = np.random.default_rng(index)
        image = read_image(self.paths[index % len(self.paths)])
        views = self.sampler(image, self.superpixels(image), rng)
        params = self.change.draw(rng, len(views.images))
        images = torch.from_numpy(views.images).permute(0, 3, 1, 2)
        if self.on_worker:
            images = self.change(images, params, torch.from_numpy(views.noise))
        return views, params, images


def collate(samples: list[tuple[Views, PhotometricParams, Tensor]]) -> dict[str, Any]:
    """One batch: images, regions, and what is left to do to the images."""
    views, params, images = zip(*samples, strict=True)
    batch: dict[str, Any] = {
        "images": torch.cat(images),
        "regions": torch.from_numpy(np.concatenate([one.regions for one in views])),
    }
    if batch["images"].dtype == torch.uint8:
        batch["params"] = PhotometricParams.concatenate(list(params))
        batch["noise"] = torch.from_numpy(np.concatenate([one.noise for one in views]))
    return batch


def loading(device: str, *, small: bool) -> list[Row]:
    """Images a second from 1 to 16 workers, colours on the workers and on the device.

    With a GPU the batches go there, and what is left of the change is computed on it.
    """
    side, files, batches = (96, 8, 8) if small else (400, 64, 40)
    sampler = ViewSampler(num_views=2 if small else 5, size=side)
    rows = []
    with _pictures(files, (120, 160) if small else (480, 640)) as (paths, superpixels):
        for on_worker in (True, False):
            one = 0.0
            for workers in WORKERS:
                # What lies ready at the start or stays behind must weigh little.
                count = max(batches, 8 * workers)
                length = BATCH * (count + 4 * workers)
                parts = (paths, length, sampler, Photometric(), superpixels, on_worker)
                each, size = _measure(Pictures(*parts), workers, count, device)
                one = one or each
                place = "workers" if on_worker else "device"
                note = f"{one / each:.2f} times the images a second; {size / 2**20:.1f} MiB a batch"
                if device != "cpu":
                    note += f"; {1 / each:.1f} images/s"
                label = f"an image, colours on the {place}, {workers} workers"
                rows.append(Row(label, each, "1 worker", each / one, note))
    if device != "cpu":
        rows.append(_hunger(rows, device, small))
    return rows


def _hunger(rows: list[Row], device: str, small: bool) -> Row:
    """A step without `torch.compile`, an image, against what 8 workers take for one."""
    setting = Setting(WAYS[:2], device, small)
    taken = time_in_turn({"step": setting.whole}, device=device)["step"] / setting.images
    fed = next(r.seconds for r in reversed(rows) if r.part.endswith("device, 8 workers"))
    note = f"{1 / taken:.1f} images/s wanted, {1 / fed:.1f} delivered; fed where the ratio is > 1"
    return Row(f"an image of a step, {setting.label}", taken, "8 workers", taken / fed, note)


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
        collate_fn=collate,
        pin_memory=device != "cpu",
        worker_init_fn=_one_thread,
    )
    finish: Callable[[dict[str, Any]], object] = partial(_finish, pictures.change, device)
    found = iter(loader)
    # Beyond what was prefetched while the workers started: the steady rate.
    for batch in itertools.islice(found, 2 * workers):
        finish(batch)
    start = time.perf_counter()
    for batch in itertools.islice(found, batches):
        finish(batch)
    if device != "cpu":
        torch.cuda.synchronize()
    taken = time.perf_counter() - start
    sent = [value for value in batch.values() if isinstance(value, Tensor)]
    return taken / (batches * BATCH), sum(value.nbytes for value in sent)


def _one_thread(number: int) -> None:
    import cv2

    del number
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


@torch.no_grad()
def _finish(change: Photometric, device: str, batch: dict[str, Any]) -> Tensor | None:
    """What the device does with a batch; without a GPU nothing, its cores are the workers'."""
    if device == "cpu":
        return None
    images = batch["images"].to(device, non_blocking=True)
    batch["regions"].to(device, non_blocking=True)
    if "params" not in batch:
        return images
    return change(images, batch["params"], batch["noise"])
