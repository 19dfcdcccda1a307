"""What the parts of a training step take, at the setting of a training config."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch
from torch import nn

from vice.experiments.benchmark.data import block_regions
from vice.losses import DenseSwAVLoss
from vice.models import Prototypes, build_embedder

PARTS = ("forward", "loss", "backward", "optimiser")
_WARM_UP, _STEPS = 2, 7


def time_step(
    config: Mapping[str, Any], images: int, device: str | None = None
) -> dict[str, float]:
    """Median time of the parts of a step with random images, and regions of the config's size.

    Precision is the config's. The optimizer is SGD with momentum, whose work a weight is the
    papers' but for LARS's norms.

    Args:
        config: VISSL's configuration, composed.
        images: Images a step, each in the config's number of views.
        device: Where; None takes a GPU if there is one.

    Returns:
        A key of ``PARTS`` to milliseconds.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    method, trunk = config["VICE"], config["MODEL"]["TRUNK"]
    maps, side = images * method["VIEWS"]["num_views"], int(method["VIEWS"]["size"])
    model = build_embedder(**{**trunk["VICE"], "weights": None}).to(device)
    criterion = DenseSwAVLoss(**{**config["LOSS"]["vice_dense_swav"], "queue_start": 0}).to(device)
    prototypes = Prototypes(model.dim, criterion.num_prototypes).to(device)
    batch = torch.randn(maps, 3, side, side, device=device)
    regions = block_regions(maps, side, int(method["SUPERPIXELS"]["region_size"]), device).int()
    parameters = [*model.parameters(), *prototypes.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9)
    mixed = bool(config["MODEL"]["AMP_PARAMS"]["USE_AMP"]) and device != "cpu"
    taken: dict[str, list[float]] = {name: [] for name in PARTS}
    for _ in range(_WARM_UP + _STEPS):
        marks = [_now(device)]
        with torch.autocast(torch.device(device).type, enabled=mixed):
            found = _marked(model, batch, marks, device)
            loss = criterion(found, prototypes.weight, regions)
        marks.append(_now(device))
        loss.backward()
        marks.append(_now(device))
        optimizer.step()
        optimizer.zero_grad()
        marks.append(_now(device))
        for name, start, end in zip(PARTS, marks, marks[1:], strict=False):
            taken[name].append(1e3 * (end - start))
    return {name: median(times[_WARM_UP:]) for name, times in taken.items()}


def _marked(model: nn.Module, batch: torch.Tensor, marks: list[float], device: str) -> torch.Tensor:
    found: torch.Tensor = model(batch)
    marks.append(_now(device))
    return found


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()
