"""What the parts of a training step take, at the setting of a training config."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from vice.methods import build_method
from vice.models import build_embedder
from vice.superpixels import grid

PARTS = ("forward", "loss", "backward", "optimiser")
_WARM_UP, _STEPS = 2, 7


def time_step(
    config: Mapping[str, Any], images: int, device: str | None = None
) -> dict[str, float]:
    """Median time of the parts of a step on one batch of noise, as the config's method makes it.

    Precision is the config's. The optimizer is SGD with momentum, whose work a weight is the
    papers' but for LARS's norms.

    Args:
        config: VISSL's configuration, composed.
        images: Images a step.
        device: Where; None takes a GPU if there is one.

    Returns:
        A key of ``PARTS`` to milliseconds.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    settings, trunk = _fresh(config["VICE"]), config["MODEL"]["TRUNK"]
    method = build_method(settings)
    plain = {**trunk["VICE"], "weights": None, "outputs": method.outputs}
    model = build_embedder(**plain).to(device)
    head, criterion = method.head(model.dim).to(device), method.loss()
    method.bind(criterion, model, lambda network, given: network(given))
    criterion.to(device)
    rng, source = np.random.default_rng(0), NoiseSource(settings, images)
    with TemporaryDirectory() as folder:
        source.folder = Path(folder)
        method.before_workers(NoiseContext(source, model, head, torch.device(device)))
        samples = [method.sample(source, index, rng) for index in range(images)]
    batch = method.finish(method.collate(samples), torch.device(device))
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9)
    mixed = bool(config["MODEL"]["AMP_PARAMS"]["USE_AMP"]) and device != "cpu"
    taken: dict[str, list[float]] = {name: [] for name in PARTS}
    for _ in range(_WARM_UP + _STEPS):
        marks = [_now(device)]
        with torch.autocast(torch.device(device).type, enabled=mixed):
            embeddings = _marked(model, batch.inputs, marks, device)
            outputs = head(embeddings)
            outputs = outputs if isinstance(outputs, list) else [outputs]
            loss = criterion(*outputs, *batch.targets)
        marks.append(_now(device))
        loss.backward()
        marks.append(_now(device))
        optimizer.step()
        optimizer.zero_grad()
        marks.append(_now(device))
        for name, start, end in zip(PARTS, marks, marks[1:], strict=False):
            taken[name].append(1e3 * (end - start))
    return {name: median(times[_WARM_UP:]) for name, times in taken.items()}


def _fresh(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Options with which the first step does all that later ones do, on the host's views."""
    loss = {**settings["LOSS"], "queue_start": 0} if "LOSS" in settings else None
    where = {"CUT_ON": "workers", "PHOTOMETRIC_ON": "workers"}
    return {**settings, **where, **({} if loss is None else {"LOSS": loss})}


class NoiseSource:
    """Images of noise with square regions of the configuration's size.

    Args:
        settings: ``config.VICE``.
        count: How many.
    """

    seed = epoch = 0
    folder = Path()

    def __init__(self, settings: Mapping[str, Any], count: int) -> None:
        self.count = count
        self.side = int(settings["STANDARDIZE"]["max_side"])
        self.region_size = int(settings.get("SUPERPIXELS", {}).get("region_size", 20))

    def __len__(self) -> int:
        return self.count

    def path(self, index: int) -> str:
        """What there is to name."""
        return f"noise {index}"

    def image(self, index: int) -> np.ndarray:
        """(side, side, 3) uint8."""
        size = (self.side, self.side, 3)
        return np.random.default_rng(index).integers(0, 256, size, dtype=np.uint8)

    def kept(self, index: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Nothing is kept."""
        del index
        return make()

    def image_and_regions(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The image and its squares, (side, side) int32."""
        image = self.image(index)
        return image, grid(self.side, self.side, self.region_size)

    def image_and_objects(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The image and one object in its middle, (side, side) uint8."""
        image = self.image(index)
        objects = np.zeros(image.shape[:2], np.uint8)
        middle = slice(self.side // 4, self.side - self.side // 4)
        objects[middle, middle] = 1
        return image, objects


class NoiseContext:
    """A `vice.methods.Context` of images of noise, on one process.

    Args:
        source: The images.
        embedder: What is trained.
        head: Trained along.
        device: Where.
    """

    seed = epoch = 0

    def __init__(
        self, source: NoiseSource, embedder: nn.Module, head: nn.Module, device: torch.device
    ) -> None:
        self.source, self.embedder, self.head, self.device = source, embedder, head, device
        self.num_images, self.folder = len(source), source.folder
        self.images = f"{len(source)} images of noise"

    def run(
        self, read: Callable[[Any, int], Any], batch_size: int, order: Sequence[int] | None = None
    ) -> Iterator[list[tuple[int, Any]]]:
        """As `vice.methods.Context.run`."""
        indices = list(range(self.num_images)) if order is None else list(order)
        for start in range(0, len(indices), batch_size):
            yield [(i, read(self.source, i)) for i in indices[start : start + batch_size]]

    def reset_optimizer(self, parameters: Iterable[nn.Parameter]) -> None:
        """There is none yet."""

    def check(self) -> None:
        """Nobody asks it to stop."""


def _marked(
    model: nn.Module, inputs: list[torch.Tensor], marks: list[float], device: str
) -> torch.Tensor:
    output = torch.cat([model(each, outputs=True) for each in inputs])
    marks.append(_now(device))
    return output


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()
