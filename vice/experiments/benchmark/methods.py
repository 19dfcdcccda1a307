"""A training step of IIC beside one of ViCE, on the same images with the same network."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from vice.experiments.benchmark.timing import Measurement, time_in_turn
from vice.experiments.reproduce.step_time import NoiseSource
from vice.images import StandardSize
from vice.methods import build_method, find_method
from vice.models import build_embedder
from vice.options import defaults

_DIM = 128
#: Options by method, where they differ from the defaults.
_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "vice": {
        "VIEWS": {"num_views": 5},
        "PROTOTYPES": {"dim": _DIM},
        "LOSS": {"queue_length": 5000, "queue_start": 0},
        "SUPERPIXELS": {"region_size": 10},
    },
    "iic": {"METHOD": {"image_scale": 1.0}},
}


class Step:
    """A step of a method.

    Args:
        name: Of the method.
        device: Where it computes.
        images: Images a step.
        side: Of views and crops, pixels.
    """

    def __init__(self, name: str, device: str, images: int, side: int) -> None:
        made, changes = find_method(name), _OPTIONS[name]
        groups = {"STANDARDIZE": StandardSize, **made.sections}
        settings: dict[str, Any] = {
            key: {**defaults(group), **changes.get(key, {})} for key, group in groups.items()
        }
        settings["STANDARDIZE"]["max_side"] = 2 * side
        own = {**defaults(made.Options), **changes.get("METHOD", {})}
        settings["METHOD"] = {"name": name, **own}
        if name == "iic":
            settings["METHOD"]["crop_side"] = side
        else:
            settings["VIEWS"]["size"] = side
        self.method = build_method({**settings, "CUT_ON": "device", "PHOTOMETRIC_ON": "device"})
        self.device = torch.device(device)
        self.model = build_embedder("resnet18", "fpn", _DIM).to(self.device)
        self.head, self.loss = self.method.head(_DIM).to(device), self.method.loss().to(device)
        source, rng = NoiseSource(settings, images), np.random.default_rng(0)
        samples = [self.method.sample(source, index, rng) for index in range(images)]
        self.collated = self.method.collate(samples)
        self.batch = self.method.finish(self.collated, self.device)

    def bare(self) -> None:
        """Forward and backward of the network alone."""
        for each in self.batch.inputs:
            self.model(each).sum().backward()

    def whole(self) -> None:
        """All that the training process does of a step, but for the optimizer's."""
        batch = self.method.finish(self.collated, self.device)
        embeddings = torch.cat([self.model(each) for each in batch.inputs])
        self.loss(*self.head(embeddings), *batch.targets).backward()


def methods(device: str, *, small: bool) -> list[Measurement]:
    """A step of IIC with head A, K = 45 and T = 10, and one of ViCE with five views.

    On a CPU seconds are those of the processor.

    Returns:
        Of each the network alone and the step, against ViCE's.
    """
    images, side = (2, 32) if small else (16, 128)
    steps = {name: Step(name, device, images, side) for name in _OPTIONS}
    calls = {
        f"{name}, {what}": getattr(step, way)
        for name, step in steps.items()
        for what, way in (("network", "bare"), ("step", "whole"))
    }
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds = time_in_turn(calls, device=device, clock=clock)
    note = f"{images} images, {side} pixels, ResNet-18 + FPN"
    rows = []
    for name in steps:
        bare, whole = seconds[f"{name}, network"], seconds[f"{name}, step"]
        first = seconds["vice, network"], seconds["vice, step"]
        rows.append(Measurement(f"{name}, network", bare, "vice, network", bare / first[0], note))
        more = f"{whole / bare:.2f} times its network alone"
        rows.append(Measurement(f"{name}, step", whole, "vice, step", whole / first[1], more))
    return rows
