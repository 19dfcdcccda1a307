"""Networks as ViCE computes them against the same ones computed by PyTorch, module by module."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from vice.experiments.benchmark.timing import Measurement, time_in_turn
from vice.models import Embedder, build_embedder
from vice.models.execution import Execution
from vice.models.execution_probe import HOPELESS, glance, one_step
from vice.models.plain import plain

#: Of a frozen backbone all but the decoder is computed without gradients.
BACKBONES = ("resnet18", "resnet50", "timm:tf_efficientnet_lite0")


def networks(device: str, *, small: bool) -> list[Measurement]:
    """Embeddings of a batch, and a step of training, in float32 and in bfloat16.

    What differs are batch normalizations folded into convolutions where no gradient is asked for
    (`vice.models.folding`) and borders other than zeros in low precision (`vice.models.padding`).

    Args:
        device: Where they are computed.
        small: ResNet-18 alone, on smaller images.
    """
    count, side = (4, 64) if small else (20, 128)
    images = torch.randn(count, 3, side, side, device=device)
    ways = [Execution(channels_last=True), Execution("bfloat16", channels_last=True)]
    seconds = glance([Execution(), *ways], images.device)
    rows = []
    for name in BACKBONES[: 1 if small else None]:
        if name.startswith("timm:") and find_spec("timm") is None:
            continue
        for way in ways:
            if seconds[way] >= HOPELESS * seconds[Execution()]:
                continue
            for frozen in (True, False):
                network = build_embedder(name, "fpn", 32, padding="replicate", frozen=frozen)
                calls = _calls(network.to(device), images, way)
                label = f"{name} + fpn, {way}, {'frozen' if frozen else 'trained'}"
                rows += _rows(calls, label, f"{count} images of {side} pixels", device, small)
    return rows


def _calls(network: Embedder, images: Tensor, way: Execution) -> dict[str, Callable[[], object]]:
    step = one_step(way, network, [images])
    # Statistics: a step changes those of a network that is trained, and so what would be folded.
    finished = copy.deepcopy(network).eval()
    finished.constant = True

    @torch.no_grad()
    def embed() -> None:
        way.run(finished, images)

    calls: dict[str, Callable[[], object]] = {}
    for name, call in (("embeddings", embed), ("step", step)):
        calls |= {name: call, f"{name}, module by module": plain()(call)}
    return calls


def _rows(
    calls: dict[str, Callable[[], object]], label: str, note: str, device: str, small: bool
) -> list[Measurement]:
    seconds = time_in_turn(calls, device=device, seconds=1.0 if small else 4.0)
    return [
        Measurement(
            f"{label}: {name}",
            seconds[name],
            "module by module",
            seconds[name] / seconds[f"{name}, module by module"],
            note,
        )
        for name in ("embeddings", "step")
    ]
